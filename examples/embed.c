/* embed.c - memfuse inside a program: store two facts, ask a question.
 *
 *   cc embed.c -lmemfuse ...   (built by CMake as the target `example_embed`)
 *   ./example_embed DATA_DIR */
#include <stdio.h>
#include <string.h>

#include "memfuse/memfuse.h"

static int call(mf_engine *engine, const char *method, const char *path,
                const char *body) {
    char error[MF_ENGINE_ERROR_TEXT];
    char *reply = NULL;
    size_t len = 0;
    int status = 0;
    if (mf_engine_call(engine, method, path, body, strlen(body), &status, &reply, &len,
                       error)) {
        (void)fprintf(stderr, "%s\n", error);
        return 1;
    }
    (void)printf("%s %s -> %d\n%s\n\n", method, path, status, reply);
    mf_engine_free(reply);
    return status >= 400;
}

int main(int argc, char **argv) {
    char data[4096];
    (void)snprintf(data, sizeof data, "server.data_dir=%s",
                   argc > 1 ? argv[1] : "data");
    const char *sets[] = {data};
    mf_engine_options options = mf_engine_options_default();
    options.sets = sets;
    options.set_count = 1;
    char error[MF_ENGINE_ERROR_TEXT];
    mf_engine *engine = NULL;
    if (mf_engine_open(&options, &engine, error) != 0) {
        (void)fprintf(stderr, "%s\n", error);
        return 1;
    }
    int failed = call(engine, "POST", "/api/v1/import",
                      "{\"user\":\"alice\",\"session\":\"trip\",\"role\":\"user\","
                      "\"content\":\"I moved to Lisbon in March.\"}\n"
                      "{\"user\":\"alice\",\"session\":\"trip\",\"role\":\"user\","
                      "\"content\":\"My sister plays the cello.\"}\n") ||
                 call(engine, "GET", "/api/v1/users?name=alice", "");
    mf_engine_close(engine);
    return failed;
}
