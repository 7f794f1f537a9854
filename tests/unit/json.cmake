ssmq_test(json SOURCES test_json.c LINKS ssmq_json LABELS unit)
