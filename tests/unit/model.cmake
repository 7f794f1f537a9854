ssmq_test(numbers SOURCES test_numbers.c LINKS ssmq_model LABELS unit)
