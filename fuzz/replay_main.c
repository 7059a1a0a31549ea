/* replay_main.c - runs a fuzz target over files that were collected before.
 *
 * libFuzzer brings its own main; this one lets any compiler build the same target as a
 * plain test.  Each argument is a file or a folder of files.  An input is copied into a
 * block of exactly its size, so that a sanitizer sees a read one byte beyond it.  A
 * folder without files is an error: a corpus that got lost must not look like a passed
 * test. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_BYTES_MAX = 16 << 20 };

/* Runs the target on one open file; false, after saying why, if it cannot be read. */
static bool replay_stream(FILE *stream, const char *path) {
    struct stat info;
    if (fstat(fileno(stream), &info) != 0 || info.st_size > INPUT_BYTES_MAX) {
        (void)fprintf(stderr, "%s: not a file of at most 16 MiB\n", path);
        return false;
    }
    size_t size = (size_t)info.st_size;
    uint8_t *data = mf_alloc(size);
    if (data == NULL || fread(data, 1, size, stream) != size) {
        (void)fprintf(stderr, "%s: cannot be read\n", path);
        mf_free(data);
        return false;
    }
    /* A target always answers 0; anything wrong stops the process inside it. */
    (void)LLVMFuzzerTestOneInput(data, size);
    mf_free(data);
    return true;
}

static bool replay_file(const char *path) {
    FILE *stream = fopen(path, "rbe");
    if (stream == NULL) {
        (void)fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return false;
    }
    bool ok = replay_stream(stream, path);
    (void)fclose(stream); /* opened for reading: nothing can be lost */
    return ok;
}

/* Returns how many files of a folder were replayed, or -1 if one could not be. */
static int replay_folder(DIR *folder, const char *path) {
    int count = 0;
    for (const struct dirent *entry = readdir(folder); entry != NULL;
         entry = readdir(folder)) {
        char name[PATH_MAX];
        if (entry->d_name[0] == '.') {
            continue;
        }
        int len = snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (len < 0 || (size_t)len >= sizeof name || !replay_file(name)) {
            return -1;
        }
        count++;
    }
    return count;
}

static int replay(const char *path) {
    DIR *folder = opendir(path);
    if (folder == NULL) {
        return replay_file(path) ? 1 : -1;
    }
    int count = replay_folder(folder, path);
    (void)closedir(folder); /* nothing was written to it */
    return count;
}

int main(int argc, char **argv) {
    int total = 0;
    for (int i = 1; i < argc; i++) {
        int count = replay(argv[i]);
        if (count <= 0) {
            (void)fprintf(stderr, "%s: %s\n", argv[i],
                          count == 0 ? "holds no input" : "replay stopped");
            return 1;
        }
        total += count;
    }
    (void)printf("%d inputs replayed\n", total);
    return total > 0 ? 0 : 1;
}
