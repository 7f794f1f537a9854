ssmq_test(grid SOURCES test_grid.c LINKS ssmq_grid LABELS unit)
