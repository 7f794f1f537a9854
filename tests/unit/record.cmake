ssmq_test(record SOURCES test_record.c LINKS ssmq_record LABELS unit)
