ssmq_test(store SOURCES test_store.c LINKS ssmq_store LABELS unit)
target_include_directories(test_store SYSTEM PRIVATE ${HDF5_C_INCLUDE_DIRS})
ssmq_test(store_drift SOURCES test_store_drift.c LINKS ssmq_store LABELS unit)
target_include_directories(test_store_drift SYSTEM PRIVATE ${HDF5_C_INCLUDE_DIRS})
