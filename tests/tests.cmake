# Tests that are not a unit test beside its code: lint, replayed fuzz corpora, integration.

# A unit test program that skipped a case would otherwise pass; as a skipped test it is seen,
# and tools/run_tests.sh counts it as failed.
get_property(unit_tests DIRECTORY PROPERTY TESTS)
if(unit_tests)
    set_tests_properties(${unit_tests} PROPERTIES
                         SKIP_REGULAR_EXPRESSION "\\[  SKIPPED \\]")
    if(MEMFUSE_SANITIZE) # the encoder's kernels are ten times slower there
        set_tests_properties(${unit_tests} PROPERTIES TIMEOUT 900)
    endif()
endif()

# Lint: rules about the source itself.  Each tool first proves that it can fail.
find_package(Python3 COMPONENTS Interpreter REQUIRED)
foreach(rule layers banned headers)
    set(tool ${CMAKE_SOURCE_DIR}/tools/check_${rule})
    set(arguments)
    if(rule STREQUAL "headers")
        set(arguments --generated ${CMAKE_BINARY_DIR}/generated)
    endif()
    add_test(NAME lint.${rule}
             COMMAND ${Python3_EXECUTABLE} ${tool} ${arguments} ${CMAKE_SOURCE_DIR})
    add_test(NAME lint.${rule}_can_fail COMMAND ${Python3_EXECUTABLE} ${tool} --self-test)
    set_tests_properties(lint.${rule} lint.${rule}_can_fail PROPERTIES
                         LABELS lint TIMEOUT 120)
endforeach()
if(TARGET libmemfuse AND NOT MEMFUSE_SANITIZE)
    add_test(NAME lint.exports
             COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tools/check_exports
                     $<TARGET_FILE:libmemfuse> ${public_headers})
    add_test(NAME lint.exports_can_fail
             COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tools/check_exports --self-test)
    set_tests_properties(lint.exports lint.exports_can_fail PROPERTIES LABELS lint TIMEOUT 120)
    add_test(NAME contract.example_embed
             COMMAND example_embed ${CMAKE_BINARY_DIR}/example-data)
    add_test(NAME contract.example_vectors COMMAND example_vectors ${MEMFUSE_MODEL_DIR})
    set_tests_properties(contract.example_vectors PROPERTIES
                         PASS_REGULAR_EXPRESSION "0.[5-9][0-9]  The cat")
    set_tests_properties(contract.example_embed contract.example_vectors PROPERTIES
                         LABELS contract TIMEOUT 120)
endif()
# Layouts differ between major versions of clang-format; the tree follows version 14.
find_program(CLANG_FORMAT NAMES clang-format-14 clang-format)
if(CLANG_FORMAT)
    execute_process(COMMAND ${CLANG_FORMAT} --version OUTPUT_VARIABLE format_version)
    if(format_version MATCHES "version 14\\.")
        add_test(NAME lint.format
                 COMMAND ${CMAKE_SOURCE_DIR}/tools/check_format ${CLANG_FORMAT})
        set_tests_properties(lint.format PROPERTIES LABELS lint TIMEOUT 120)
    endif()
endif()

# Fuzz corpora, replayed by this build's compiler.
if(NOT MEMFUSE_FUZZ)
    include(${CMAKE_SOURCE_DIR}/cmake/fuzz.cmake)
endif()

# Integration: the real binary, spoken to from outside (tests/integration).  They run in the
# environment that tools/setup.sh makes; without it each of them fails and says so.
set(integration_python ${CMAKE_SOURCE_DIR}/.venv/bin/python)
function(mf_integration name)
    set(files ${ARGN})
    list(TRANSFORM files PREPEND ${CMAKE_SOURCE_DIR}/tests/integration/)
    list(TRANSFORM files APPEND .py)
    add_test(NAME integration.${name}
             COMMAND ${integration_python} -m pytest -q -c ${CMAKE_SOURCE_DIR}/tests/integration/pytest.ini
                     --rootdir ${CMAKE_SOURCE_DIR}/tests/integration ${files})
    set(environment MEMFUSE_BIN=$<TARGET_FILE:memfuse> MEMFUSE_MODEL_DIR=${MEMFUSE_MODEL_DIR}
                    MEMFUSE_RANKS_FILE=${MEMFUSE_RANKS_FILE}
                    MEMFUSE_CL100K_FILE=${MEMFUSE_CL100K_FILE} PYTHONDONTWRITEBYTECODE=1)
    set(timeout 300)
    if(MEMFUSE_SANITIZE)
        set(timeout 1200)
    endif()
    set_tests_properties(integration.${name} PROPERTIES LABELS integration TIMEOUT ${timeout}
                         SKIP_REGULAR_EXPRESSION "[0-9]+ skipped" ENVIRONMENT "${environment}")
endfunction()
if(TARGET memfuse)
    mf_integration(sdk test_sdk test_sdk_next)
    mf_integration(sdk_adapters test_sdk_adapters test_sdk_suite)
    mf_integration(acceptance test_acceptance)
    mf_integration(contract test_contract)
    mf_integration(bad_input test_bad_input)
    mf_integration(embedding test_embedding)
    mf_integration(bad_http test_bad_http)
    mf_integration(durability test_durability)
    mf_integration(compression test_compression)
    mf_integration(buffers test_buffers)
    mf_integration(flush test_flush)
    mf_integration(api_keys test_api_keys)
    mf_integration(cli test_cli)
    mf_integration(embed test_embed)
    mf_integration(model test_model)
    mf_integration(bench test_bench)
    mf_integration(tokenize test_tokenize)
    mf_integration(settings test_settings)
    mf_integration(memory test_memory)
    mf_integration(jobs test_jobs)
    mf_integration(metrics test_metrics test_watch)
    mf_integration(tiers test_tiers)
endif()
