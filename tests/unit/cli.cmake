ssmq_test(args SOURCES test_args.c ${CMAKE_SOURCE_DIR}/src/cli/args.c LINKS ssmq_base LABELS unit)
