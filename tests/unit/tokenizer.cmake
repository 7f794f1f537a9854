ssmq_test(tokenizer SOURCES test_tokenizer.c ../support/write_tokenizer.c
  LINKS ssmq_model LABELS unit)
ssmq_test(tokenizer_golden SOURCES test_tokenizer_golden.c LINKS ssmq_model LABELS unit)
ssmq_test(bpe SOURCES test_bpe.c LINKS ssmq_model LABELS unit)
