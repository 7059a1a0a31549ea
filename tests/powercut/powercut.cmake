# The power-cut test of the store: a program of its own, because it replaces SQLite's view
# of the disk for the whole process.  `powercut_test --rounds N --seed S` runs more.
if(TARGET mf_store)
    add_executable(powercut_test ${CMAKE_CURRENT_LIST_DIR}/powercut_test.c
                   ${CMAKE_CURRENT_LIST_DIR}/power_vfs.c)
    target_include_directories(powercut_test PRIVATE ${CMAKE_CURRENT_LIST_DIR})
    target_link_libraries(powercut_test PRIVATE mf_store PkgConfig::CMOCKA)
    set(rounds 100)
    if(MEMFUSE_SANITIZE) # many times slower, and after other faults than this test
        set(rounds 12)
    endif()
    add_test(NAME store.powercut COMMAND powercut_test --rounds ${rounds})
    set_tests_properties(store.powercut PROPERTIES LABELS contract TIMEOUT 300)
endif()
