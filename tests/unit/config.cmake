ssmq_test(config SOURCES test_config.c LINKS ssmq_config LABELS unit)
ssmq_test(state_types SOURCES test_state_types.c LINKS ssmq_config LABELS unit)
ssmq_test(each_scope SOURCES test_each_scope.c LINKS ssmq_config LABELS unit)
