ssmq_test(numbers SOURCES test_numbers.c LINKS ssmq_model LABELS unit)
ssmq_test(safetensors SOURCES test_safetensors.c LINKS ssmq_model LABELS unit)
ssmq_test(modules SOURCES test_modules.c LINKS ssmq_model LABELS unit)
ssmq_test(config_json SOURCES test_config_json.c ../support/write_checkpoint.c
  LINKS ssmq_model LABELS unit)
ssmq_test(model SOURCES test_model.c ../support/write_checkpoint.c LINKS ssmq_model LABELS unit)
