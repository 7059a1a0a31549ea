# Benchmarks: bench/<name>.c becomes the program <name>, linked with the highest floor there
# is.  Not part of the default build: the target `benchmarks` makes them all.
file(GLOB benchmarks CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/bench/*.c)
set(bench_floor mf_flags)
foreach(floor base os text num model index store memory buffer service http lib)
    if(TARGET mf_${floor})
        set(bench_floor mf_${floor})
    endif()
endforeach()
add_custom_target(benchmarks)
foreach(source ${benchmarks})
    get_filename_component(program ${source} NAME_WE)
    add_executable(${program} EXCLUDE_FROM_ALL ${source})
    target_link_libraries(${program} PRIVATE ${bench_floor})
    target_compile_definitions(${program} PRIVATE MF_BENCH_MODEL_DIR="${MEMFUSE_MODEL_DIR}"
        MF_BENCH_DATA_DIR="${CMAKE_SOURCE_DIR}/tests/data"
        MF_BENCH_DOCS_DIR="${CMAKE_SOURCE_DIR}/docs")
    add_dependencies(benchmarks ${program})
endforeach()

# `bench` runs what `make bench` prints, each in its own process, one after the other.
if(TARGET memfuse)
    add_custom_target(bench
        COMMAND memfuse bench encoder --model ${MEMFUSE_MODEL_DIR} --precision all --kernel all
        COMMAND bench_tokenizer
        COMMAND bench_index
        COMMAND bench_metrics
        COMMAND bench_tiers
        COMMAND bench_store ${CMAKE_BINARY_DIR}
        COMMAND bench_server $<TARGET_FILE:memfuse> ${MEMFUSE_MODEL_DIR} ${MEMFUSE_RANKS_FILE}
                ${CMAKE_BINARY_DIR}
        DEPENDS memfuse benchmarks USES_TERMINAL VERBATIM)
endif()

# Yardsticks for the bare products: needs packages that nothing else needs, so only
# `make bench-peers` builds it (bench/peers/README.md).
add_executable(bench_products EXCLUDE_FROM_ALL ${CMAKE_SOURCE_DIR}/bench/peers/products.c)
target_link_libraries(bench_products PRIVATE mf_num dnnl openblas)
