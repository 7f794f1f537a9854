set(cpu_support ../support/cpu_fixture.c ../support/write_checkpoint.c)
ssmq_test(cpu_engine SOURCES test_cpu_engine.c ../support/oracle.c ${cpu_support}
  LINKS ssmq_engine LABELS unit TIMEOUT 300)
ssmq_test(cpu_invariants SOURCES test_cpu_invariants.c ${cpu_support} LINKS ssmq_engine
  LABELS unit TIMEOUT 300)
ssmq_test(cpu_products SOURCES test_cpu_products.c ${cpu_support} LINKS ssmq_engine LABELS unit TIMEOUT 300)
ssmq_test(cpu_faults SOURCES test_cpu_faults.c ${cpu_support} LINKS ssmq_engine LABELS unit TIMEOUT 300)
ssmq_test(state_round SOURCES test_state_round.c ${cpu_support} LINKS ssmq_engine LABELS unit)
ssmq_test(reuse SOURCES test_reuse.c ../support/tested_engine.c ../support/closeness.c ${cpu_support}
  LINKS ssmq_engine ARGS cpu LABELS unit TIMEOUT 300)
ssmq_test(golden_transformers
  SOURCES test_golden_transformers.c ../support/golden_json.c ${cpu_support}
  LINKS ssmq_engine LABELS golden)
ssmq_test(golden_demo SOURCES test_golden_demo.c ../support/golden_json.c ${cpu_support}
  LINKS ssmq_engine LABELS golden TIMEOUT 300 PROCESSORS 2)
# NVML needs no GPU to be tested: a library of its name stands in, with the names of now and before.
if(EXISTS ${CMAKE_SOURCE_DIR}/src/engine/cuda/nvml.c)
  foreach(age new old)
    ssmq_test(nvml_${age} SOURCES test_nvml.c ${CMAKE_SOURCE_DIR}/src/engine/cuda/nvml.c
      LINKS ssmq_base ${CMAKE_DL_LIBS} LABELS unit)
    add_library(fake_nvml_${age} SHARED ../support/fake_nvml.c)
    target_link_libraries(fake_nvml_${age} PRIVATE ssmq_build)
    set_target_properties(fake_nvml_${age} PROPERTIES OUTPUT_NAME nvidia-ml SOVERSION 1
      LIBRARY_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/fake_nvml_${age})
    add_dependencies(test_nvml_${age} fake_nvml_${age})
    set_tests_properties(nvml_${age} PROPERTIES ENVIRONMENT
      "LD_LIBRARY_PATH=${CMAKE_CURRENT_BINARY_DIR}/fake_nvml_${age}")
  endforeach()
  target_compile_definitions(fake_nvml_old PRIVATE FAKE_NVML_OLD)
endif()
# Parts of the CUDA engine that need no GPU.
if(SSMQ_HAVE_CUDA)
  foreach(part algorithms layout linear)
    ssmq_test(cuda_${part} SOURCES test_cuda_${part}.c LINKS ssmq_engine CUDA::cudart LABELS unit)
  endforeach()
endif()
