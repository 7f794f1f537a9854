ssmq_test(config SOURCES test_config.c LINKS ssmq_config LABELS unit)
