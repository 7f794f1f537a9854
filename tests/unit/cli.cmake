ssmq_test(args SOURCES test_args.c ${CMAKE_SOURCE_DIR}/src/cli/args.c LINKS ssmq_base LABELS unit)
ssmq_test(bench_floor SOURCES test_bench_floor.c ${CMAKE_SOURCE_DIR}/src/cli/bench_floor.c
  LINKS ssmq_quant LABELS unit)
ssmq_test(bench_run SOURCES test_bench_run.c ../support/trial_fixture.c
  ${CMAKE_SOURCE_DIR}/src/cli/bench_run.c ${CMAKE_SOURCE_DIR}/src/cli/bench_floor.c
  LINKS ssmq_trial LABELS unit)
ssmq_test(rows_ahead SOURCES test_rows_ahead.c ${CMAKE_SOURCE_DIR}/src/cli/rows_ahead.c
  LINKS ssmq_journal Threads::Threads LABELS unit)
