# The numbered migrations of sql/sqlite become byte arrays in mf_store, so the program
# carries its own schema.  The table they form is declared in src/store/sqlite/migrate.h.
if(TARGET mf_store)
    file(GLOB migrations CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/sql/sqlite/*.sql)
    list(SORT migrations)
    set(arrays "")
    set(rows "")
    set(expected 1)
    foreach(file ${migrations})
        get_filename_component(stem ${file} NAME_WE)
        if(NOT stem MATCHES "^([0-9][0-9][0-9][0-9])_([a-z0-9_]+)$")
            message(FATAL_ERROR "${file}: a migration is named NNNN_what_it_does.sql")
        endif()
        string(REGEX REPLACE "^0+" "" number ${CMAKE_MATCH_1})
        if(NOT number EQUAL expected)
            message(FATAL_ERROR "${file}: the next migration is number ${expected}")
        endif()
        math(EXPR expected "${expected} + 1")
        set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
        file(READ ${file} hex HEX)
        string(REGEX REPLACE "(..)" "0x\\1," bytes "${hex}")
        string(APPEND arrays "static const char sql_${number}[] = {${bytes}0};\n")
        string(APPEND rows "    {${number}, \"${stem}\", sql_${number}},\n")
    endforeach()
    file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/generated/sqlite_migrations.c @ONLY CONTENT
"/* Made by cmake/sql.cmake from sql/sqlite/. */
#include \"store/sqlite/migrate.h\"
@arrays@const mf_sqlite_migration mf_sqlite_migrations[] = {
@rows@};
const int mf_sqlite_migration_count =
    (int)(sizeof(mf_sqlite_migrations) / sizeof(mf_sqlite_migrations[0]));
")
    target_sources(mf_store PRIVATE ${CMAKE_BINARY_DIR}/generated/sqlite_migrations.c)
endif()
