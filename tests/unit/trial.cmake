ssmq_test(stats SOURCES test_stats.c LINKS ssmq_trial LABELS unit)
ssmq_test(positions SOURCES test_positions.c LINKS ssmq_trial LABELS unit)
ssmq_test(score SOURCES test_score.c ../support/trial_fixture.c LINKS ssmq_trial LABELS unit)
ssmq_test(prompt SOURCES test_prompt.c LINKS ssmq_trial LABELS unit)
ssmq_test(trial SOURCES test_trial.c ../support/trial_fixture.c ../support/copy_engine.c
  LINKS ssmq_trial LABELS unit)
ssmq_test(null_engine SOURCES test_null_engine.c ../support/trial_fixture.c
  LINKS ssmq_trial LABELS unit)
ssmq_test(extent SOURCES test_extent.c ../support/trial_fixture.c LINKS ssmq_trial LABELS unit)
ssmq_test(passkey SOURCES test_passkey.c ../support/trial_fixture.c ../support/copy_engine.c
  LINKS ssmq_trial LABELS unit)
ssmq_test(fidelity SOURCES test_fidelity.c ../support/trial_fixture.c LINKS ssmq_trial LABELS unit)
ssmq_test(text_counts SOURCES test_text_counts.c LINKS ssmq_trial LABELS unit)
ssmq_test(drift SOURCES test_drift.c ../support/trial_fixture.c ../support/cpu_fixture.c
  ../support/write_checkpoint.c LINKS ssmq_trial LABELS unit)
