ssmq_test(quant SOURCES test_quant.c LINKS ssmq_quant LABELS unit)
ssmq_test(scope SOURCES test_scope.c LINKS ssmq_quant LABELS unit)
