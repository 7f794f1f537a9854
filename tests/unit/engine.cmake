set(cpu_support ../support/cpu_fixture.c ../support/write_checkpoint.c)
ssmq_test(cpu_engine SOURCES test_cpu_engine.c ../support/oracle.c ${cpu_support}
  LINKS ssmq_engine LABELS unit TIMEOUT 300)
ssmq_test(cpu_invariants SOURCES test_cpu_invariants.c ${cpu_support} LINKS ssmq_engine
  LABELS unit TIMEOUT 300)
ssmq_test(cpu_products SOURCES test_cpu_products.c ${cpu_support} LINKS ssmq_engine LABELS unit TIMEOUT 300)
ssmq_test(cpu_faults SOURCES test_cpu_faults.c ${cpu_support} LINKS ssmq_engine LABELS unit TIMEOUT 300)
ssmq_test(golden_transformers
  SOURCES test_golden_transformers.c ../support/golden_json.c ${cpu_support}
  LINKS ssmq_engine LABELS golden)
ssmq_test(golden_demo SOURCES test_golden_demo.c ../support/golden_json.c ${cpu_support}
  LINKS ssmq_engine LABELS golden TIMEOUT 300 PROCESSORS 2)
