ssmq_test(journal SOURCES test_journal.c LINKS ssmq_journal LABELS unit)
