/* model_folder.c - what model folders hold, told from their small files and from the
 * sizes of the others. */
#include "memfuse/model.h"

#include <stdio.h>
#include <string.h>

#include "lib/model_sums.h"
#include "lib/reply.h"
#include "model/encoder_config.h"
#include "os/file.h"
#include "os/folder.h"

#define WEIGHTS_FILE "model.safetensors"
#define PACK_SUFFIX ".mfpack"

/* --- files -------------------------------------------------------------------------
 */

typedef struct folder_walk {
    mf_arena *arena;
    mf_err *err;
    /* For each file: its name below the folder, which is memory of `arena`. */
    mf_rc (*visit)(struct folder_walk *walk, const char *name, uint64_t bytes);
    void *ctx;
} folder_walk;

/* The files of the folder, then those of the folders in it, which is as deep as models
 * go. */
static mf_rc walk_folder(folder_walk *walk, const char *dir, const char *prefix) {
    const mf_folder_entry *entries = NULL;
    size_t count = 0;
    MF_TRY(mf_folder_list(dir, walk->arena, &entries, &count, walk->err));
    for (size_t i = 0; i < count; i++) {
        if (!entries[i].is_folder) {
            mf_str name = mf_arena_printf(walk->arena, "%s%s", prefix, entries[i].name);
            if (name.p == NULL) {
                return MF_FAIL(walk->err, MF_E_NOMEM, "no memory to list a folder");
            }
            MF_TRY(walk->visit(walk, name.p, entries[i].bytes));
        }
    }
    for (size_t i = 0; prefix[0] == '\0' && i < count; i++) {
        if (entries[i].is_folder) {
            char path[MF_PATH_MAX];
            char below[MF_PATH_MAX];
            MF_TRY(mf_path_join(path, sizeof path, dir, entries[i].name, walk->err));
            (void)snprintf(below, sizeof below, "%s/", entries[i].name);
            MF_TRY(walk_folder(walk, path, below));
        }
    }
    return MF_OK;
}

typedef struct file_list {
    mf_reply reply;
    yyjson_mut_val *rows;
    const char *dir;
    mf_buf sums;
    bool hash;
} file_list;

static mf_rc add_file(folder_walk *walk, const char *name, uint64_t bytes) {
    file_list *list = walk->ctx;
    yyjson_mut_doc *doc = list->reply.doc;
    yyjson_mut_val *row = yyjson_mut_arr_add_obj(doc, list->rows);
    (void)yyjson_mut_obj_add_str(doc, row, "name", name);
    (void)yyjson_mut_obj_add_uint(doc, row, "bytes", bytes);
    if (list->hash) {
        char path[MF_PATH_MAX];
        char sum[MF_SHA256_TEXT];
        MF_TRY(mf_path_join(path, sizeof path, list->dir, name, walk->err));
        MF_TRY(mf_sha256_file(path, sum, walk->err));
        (void)yyjson_mut_obj_add_strcpy(doc, row, "sha256", sum);
    } else {
        (void)yyjson_mut_obj_add_null(doc, row, "sha256");
    }
    mf_str recorded = mf_sums_find(mf_buf_view(&list->sums), mf_str_from(name));
    if (recorded.p != NULL) {
        (void)yyjson_mut_obj_add_strncpy(doc, row, "recorded", recorded.p,
                                         recorded.len);
    } else {
        (void)yyjson_mut_obj_add_null(doc, row, "recorded");
    }
    return MF_OK;
}

static mf_rc list_files(file_list *list, mf_err *err) {
    MF_TRY(mf_reply_begin(&list->reply, err));
    MF_TRY(mf_sums_read(list->dir, &list->sums, err));
    list->rows = yyjson_mut_arr(list->reply.doc);
    yyjson_mut_doc_set_root(list->reply.doc, list->rows);
    folder_walk walk = {
        .arena = list->reply.arena, .err = err, .visit = add_file, .ctx = list};
    return walk_folder(&walk, list->dir, "");
}

int mf_model_files(const char *dir, int hash, char **json, char *error) {
    mf_err err = {0};
    file_list list = {.dir = dir, .hash = hash != 0};
    mf_buf_init(&list.sums, MF_SUMS_MAX);
    mf_rc rc = list_files(&list, &err);
    if (rc == MF_OK) {
        rc = mf_reply_end(&list.reply, json, &err);
    }
    mf_buf_done(&list.sums);
    mf_reply_done(&list.reply);
    return mf_reply_error(&err, rc, error);
}

/* --- models ------------------------------------------------------------------------
 */

typedef struct model_row {
    yyjson_mut_doc *doc;
    yyjson_mut_val *precisions;
    uint64_t bytes;
    bool weights;
} model_row;

/* Counts a file, and notes the precision whose weights it has. */
static mf_rc count_file(folder_walk *walk, const char *name, uint64_t bytes) {
    model_row *row = walk->ctx;
    mf_str text = mf_str_from(name);
    row->bytes += bytes;
    if (strcmp(name, WEIGHTS_FILE) == 0) {
        row->weights = true;
        (void)yyjson_mut_arr_prepend(row->precisions, yyjson_mut_str(row->doc, "fp32"));
    } else if (mf_str_ends(text, MF_STR(PACK_SUFFIX))) {
        (void)yyjson_mut_arr_add_strn(row->doc, row->precisions, name,
                                      text.len - strlen(PACK_SUFFIX));
    }
    return MF_OK;
}

/* The model_type of config.json, or NULL; memory of `arena`. */
static const char *read_kind(const char *dir, mf_arena *arena) {
    char path[MF_PATH_MAX];
    mf_buf text;
    yyjson_doc *doc = NULL;
    mf_str kind = MF_STR_NONE;
    mf_buf_init(&text, MF_ENCODER_JSON_MAX);
    if (mf_path_join(path, sizeof path, dir, "config.json", NULL) == MF_OK &&
        mf_file_read(path, &text, NULL) == MF_OK &&
        mf_json_parse(mf_buf_view(&text), arena, &doc, NULL) == MF_OK) {
        yyjson_val *value = yyjson_obj_get(yyjson_doc_get_root(doc), "model_type");
        kind =
            mf_arena_str(arena, (mf_str){yyjson_get_str(value), yyjson_get_len(value)});
    }
    mf_buf_done(&text);
    return kind.len > 0 ? kind.p : NULL;
}

static mf_rc add_model(mf_reply *reply, yyjson_mut_val *models, const char *dir,
                       const char *name, mf_err *err) {
    yyjson_mut_doc *doc = reply->doc;
    model_row row = {.doc = doc, .precisions = yyjson_mut_arr(doc)};
    folder_walk walk = {
        .arena = reply->arena, .err = err, .visit = count_file, .ctx = &row};
    MF_TRY(walk_folder(&walk, dir, ""));
    mf_encoder_config config;
    mf_err problem = {0};
    mf_rc rc = mf_encoder_config_read(dir, &config, &problem);
    if (rc == MF_OK && !row.weights) {
        rc = MF_FAIL(&problem, MF_E_NOTFOUND, "there is no " WEIGHTS_FILE);
    }
    yyjson_mut_val *model = yyjson_mut_arr_add_obj(doc, models);
    (void)yyjson_mut_obj_add_strcpy(doc, model, "name", name);
    (void)yyjson_mut_obj_add_strcpy(doc, model, "path", dir);
    const char *kind = read_kind(dir, reply->arena);
    (void)yyjson_mut_obj_add_str(doc, model, "kind", kind != NULL ? kind : "unknown");
    bool shaped = rc == MF_OK;
    bool ranks = shaped && config.labels > 0;
    (void)yyjson_mut_obj_add_str(doc, model, "task", ranks ? "rank" : "encode");
    (void)yyjson_mut_obj_add_uint(doc, model, "dim", shaped ? config.hidden : 0);
    (void)yyjson_mut_obj_add_uint(doc, model, "layers", shaped ? config.layers : 0);
    (void)yyjson_mut_obj_add_uint(doc, model, "window", shaped ? config.window : 0);
    (void)yyjson_mut_obj_add_uint(doc, model, "bytes", row.bytes);
    (void)yyjson_mut_obj_add_val(doc, model, "precisions", row.precisions);
    (void)yyjson_mut_obj_add_bool(doc, model, "usable", shaped);
    if (shaped) {
        (void)yyjson_mut_obj_add_null(doc, model, "problem");
    } else {
        (void)yyjson_mut_obj_add_strcpy(doc, model, "problem", problem.text);
    }
    return MF_OK;
}

static mf_rc list_models(const char *folder, mf_reply *reply, mf_err *err) {
    const mf_folder_entry *entries = NULL;
    size_t count = 0;
    MF_TRY(mf_reply_begin(reply, err));
    yyjson_mut_val *models = yyjson_mut_arr(reply->doc);
    yyjson_mut_doc_set_root(reply->doc, models);
    if (mf_file_exists(folder)) {
        MF_TRY(mf_folder_list(folder, reply->arena, &entries, &count, err));
    }
    for (size_t i = 0; i < count; i++) {
        char dir[MF_PATH_MAX];
        char config[MF_PATH_MAX];
        MF_TRY(mf_path_join(dir, sizeof dir, folder, entries[i].name, err));
        MF_TRY(mf_path_join(config, sizeof config, dir, "config.json", err));
        if (entries[i].is_folder && mf_file_exists(config)) {
            MF_TRY(add_model(reply, models, dir, entries[i].name, err));
        }
    }
    return MF_OK;
}

int mf_model_list(const char *models, char **json, char *error) {
    mf_err err = {0};
    mf_reply reply = {.arena = NULL};
    mf_rc rc = list_models(models, &reply, &err);
    if (rc == MF_OK) {
        rc = mf_reply_end(&reply, json, &err);
    }
    mf_reply_done(&reply);
    return mf_reply_error(&err, rc, error);
}
