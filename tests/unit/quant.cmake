ssmq_test(e4m3 SOURCES test_e4m3.c ../support/golden_json.c LINKS ssmq_quant ssmq_json LABELS unit)
ssmq_test(quant SOURCES test_quant.c LINKS ssmq_quant LABELS unit)
ssmq_test(scope SOURCES test_scope.c LINKS ssmq_quant LABELS unit)
