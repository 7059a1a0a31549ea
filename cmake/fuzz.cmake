# Fuzz targets: fuzz/<name>_fuzz.c defines LLVMFuzzerTestOneInput for one trust boundary.
#
# With MEMFUSE_FUZZ (preset `fuzz`, clang) each becomes the libFuzzer program fuzz_<name>
# and every floor is instrumented for coverage.  Otherwise, with any compiler, each is
# linked with fuzz/replay_main.c and replays fuzz/corpus/<name>/* as the test fuzz.<name>,
# so that an input that once broke something is tried on every run of the tests.
file(GLOB fuzz_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/fuzz/*_fuzz.c)

# A target may reach any floor that exists.
foreach(floor base os text num model index store memory buffer service http lib)
    if(TARGET mf_${floor})
        list(APPEND fuzz_floors mf_${floor})
    endif()
endforeach()

if(MEMFUSE_FUZZ)
    target_compile_options(mf_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

foreach(source ${fuzz_sources})
    get_filename_component(stem ${source} NAME_WE)
    string(REGEX REPLACE "_fuzz$" "" name ${stem})
    if(MEMFUSE_FUZZ)
        add_executable(fuzz_${name} ${source})
        target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
    else()
        add_executable(fuzz_${name} ${source} ${CMAKE_SOURCE_DIR}/fuzz/replay_main.c)
        add_test(NAME fuzz.${name}
                 COMMAND fuzz_${name} ${CMAKE_SOURCE_DIR}/fuzz/corpus/${name})
        set_tests_properties(fuzz.${name} PROPERTIES LABELS fuzz-replay TIMEOUT 120)
    endif()
    target_link_libraries(fuzz_${name} PRIVATE mf_flags ${fuzz_floors})
    # The entry point has the name libFuzzer calls, and no header declares it.
    set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS -Wno-missing-prototypes)
endforeach()
