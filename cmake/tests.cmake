# Unit tests: src/<floor>/<name>_test.c becomes the program <floor>_<name>_test, linked with
# its own floor and everything below.  MF_TEST_LABEL in a comment of the file,
# `ctest-label: golden`, gives it another label than `unit`.
pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)

set(test_seconds 120)
if(CMAKE_CROSSCOMPILING) # an emulator runs the tests
    set(test_seconds 1800)
endif()

foreach(floor base os text num model index store memory buffer service http lib)
    file(GLOB_RECURSE tests CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${floor}/*_test.c)
    foreach(test ${tests})
        get_filename_component(stem ${test} NAME_WE)
        set(program ${floor}_${stem})
        add_executable(${program} ${test})
        target_link_libraries(${program} PRIVATE PkgConfig::CMOCKA)
        if(TARGET mf_${floor})
            target_link_libraries(${program} PRIVATE mf_${floor})
        else()
            target_link_libraries(${program} PRIVATE mf_flags)
        endif()
        target_compile_definitions(${program} PRIVATE MF_TEST_MODEL_DIR="${MEMFUSE_MODEL_DIR}"
            MF_TEST_RANKS_FILE="${MEMFUSE_RANKS_FILE}"
            MF_TEST_CL100K_FILE="${MEMFUSE_CL100K_FILE}"
            MF_TEST_DATA_DIR="${CMAKE_SOURCE_DIR}/tests/data"
            $<$<BOOL:${CMAKE_CROSSCOMPILING}>:MF_TEST_SLOW>)
        set(label unit)
        file(STRINGS ${test} marks REGEX "ctest-label: [a-z-]+")
        if(marks MATCHES "ctest-label: ([a-z-]+)")
            set(label ${CMAKE_MATCH_1})
        endif()
        add_test(NAME ${floor}.${stem} COMMAND ${program})
        set_tests_properties(${floor}.${stem} PROPERTIES LABELS ${label} TIMEOUT ${test_seconds})
    endforeach()
endforeach()
include(${CMAKE_SOURCE_DIR}/tests/tests.cmake OPTIONAL)
include(${CMAKE_SOURCE_DIR}/tests/powercut/powercut.cmake OPTIONAL)
