ssmq_test(base SOURCES test_base.c LINKS ssmq_base LABELS unit)
