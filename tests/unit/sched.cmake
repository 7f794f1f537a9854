ssmq_test(sched SOURCES test_sched.c LINKS ssmq_sched LABELS unit TIMEOUT 120)
ssmq_test(simulate SOURCES test_simulate.c LINKS ssmq_sched LABELS unit)
