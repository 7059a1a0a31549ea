/* tokenizer_files.c - reads tokenizer.json and tokenizer_config.json. */
#include "model/tokenizer_files.h"

#include "base/alloc.h"
#include "model/vocab.h"
#include "os/file.h"

enum { FILE_BYTES_MAX = 64 << 20 };

/* --- memory for the JSON library -------------------------------------------------- */

static void *json_alloc(void *ctx, size_t size) {
    (void)ctx;
    return mf_alloc(size);
}

static void *json_realloc(void *ctx, void *block, size_t old_size, size_t size) {
    (void)ctx;
    (void)old_size;
    return mf_realloc(block, size);
}

static void json_free(void *ctx, void *block) {
    (void)ctx;
    mf_free(block);
}

/* --- reading ---------------------------------------------------------------------- */

/* Reads a JSON object; *out stays NULL when there is no such file. */
static mf_rc read_object(const char *dir, const char *name, yyjson_doc **out,
                         mf_err *err) {
    static const yyjson_alc memory = {json_alloc, json_realloc, json_free, NULL};
    char path[MF_PATH_MAX];
    MF_TRY(mf_path_join(path, sizeof path, dir, name, err));
    mf_buf text;
    mf_buf_init(&text, FILE_BYTES_MAX);
    mf_err found;
    mf_rc rc = mf_file_read(path, &text, &found);
    if (rc != MF_OK) {
        mf_buf_done(&text);
        if (rc != MF_E_NOTFOUND && err != NULL) {
            *err = found;
        }
        return rc == MF_E_NOTFOUND ? MF_OK : rc;
    }
    yyjson_read_err why = {0};
    yyjson_doc *doc =
        yyjson_read_opts(text.p, text.len, YYJSON_READ_NOFLAG, &memory, &why);
    mf_buf_done(&text);
    if (doc == NULL && why.code == YYJSON_READ_ERROR_MEMORY_ALLOCATION) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory to read '%s'", path);
    }
    if (!yyjson_is_obj(yyjson_doc_get_root(doc))) {
        yyjson_doc_free(doc);
        return MF_FAIL(err, MF_E_CORRUPT, "'%s' is not a JSON object", path);
    }
    *out = doc;
    return MF_OK;
}

mf_rc mf_tokenizer_files_read(const char *dir, mf_tokenizer_files *out, mf_err *err) {
    *out = (mf_tokenizer_files){NULL, NULL};
    MF_TRY(read_object(dir, "tokenizer.json", &out->tokenizer, err));
    return read_object(dir, "tokenizer_config.json", &out->config, err);
}

void mf_tokenizer_files_done(mf_tokenizer_files *files) {
    yyjson_doc_free(files->tokenizer);
    yyjson_doc_free(files->config);
    *files = (mf_tokenizer_files){NULL, NULL};
}

yyjson_val *mf_tokenizer_root(const mf_tokenizer_files *files) {
    return yyjson_doc_get_root(files->tokenizer);
}

yyjson_val *mf_tokenizer_config_root(const mf_tokenizer_files *files) {
    return yyjson_doc_get_root(files->config);
}

mf_str mf_json_text(yyjson_val *value) {
    return yyjson_is_str(value) ? (mf_str){yyjson_get_str(value), yyjson_get_len(value)}
                                : MF_STR_NONE;
}

/* --- special tokens --------------------------------------------------------------- */

/* A special token of tokenizer_config.json: a string, or an object with its content. */
static void take_name(yyjson_val *value, mf_str *name) {
    mf_str found =
        mf_json_text(yyjson_is_obj(value) ? yyjson_obj_get(value, "content") : value);
    if (found.len > 0) {
        *name = found;
    }
}

/* {"type":"TemplateProcessing","single":[first, A, sep],"pair":[first, A, sep.., B,
 * sep]}: each step is {"SpecialToken":{"id":name}} or {"Sequence":{"id":"A"}}. */
static bool read_template(yyjson_val *processor, mf_special_names *names) {
    yyjson_val *single = yyjson_obj_get(processor, "single");
    yyjson_val *pair = yyjson_obj_get(processor, "pair");
    size_t steps = yyjson_arr_size(pair);
    if (yyjson_arr_size(single) != 3 || steps < 5 || steps > 6) {
        return false;
    }
    const size_t places[] = {0, 2};
    mf_str found[2];
    for (size_t i = 0; i < 2; i++) {
        yyjson_val *step = yyjson_arr_get(single, places[i]);
        yyjson_val *token = yyjson_obj_get(step, "SpecialToken");
        found[i] = mf_json_text(yyjson_obj_get(token, "id"));
        if (found[i].len == 0) {
            return false;
        }
    }
    names->first = found[0];
    names->sep = found[1];
    names->sep_count = steps - 4;
    yyjson_val *second = yyjson_obj_get(yyjson_arr_get(pair, steps - 2), "Sequence");
    yyjson_val *type = yyjson_obj_get(second, "type_id");
    names->second_type = yyjson_get_uint(type) == 1 ? 1 : 0;
    return second != NULL;
}

static mf_rc read_processor(yyjson_val *processor, mf_special_names *names,
                            mf_err *err) {
    mf_str type = mf_json_text(yyjson_obj_get(processor, "type"));
    bool robert = mf_str_eq(type, MF_STR("RobertaProcessing"));
    bool known = true;
    if (robert || mf_str_eq(type, MF_STR("BertProcessing"))) {
        /* "cls":["<s>",0] */
        take_name(yyjson_arr_get_first(yyjson_obj_get(processor, "cls")),
                  &names->first);
        take_name(yyjson_arr_get_first(yyjson_obj_get(processor, "sep")), &names->sep);
        names->sep_count = robert ? 2 : 1;
        names->second_type = robert ? 0 : 1;
    } else if (mf_str_eq(type, MF_STR("TemplateProcessing"))) {
        known = read_template(processor, names);
    } else {
        known = processor == NULL || yyjson_is_null(processor);
    }
    return known ? MF_OK
                 : MF_FAIL(err, MF_E_UNSUPPORTED,
                           "tokenizer.json: post_processor '%.*s' does not put one "
                           "token before a text and one behind it",
                           MF_STR_ARGS(type));
}

mf_rc mf_special_names_get(const mf_tokenizer_files *files, mf_special_names *names,
                           mf_err *err) {
    yyjson_val *root = mf_tokenizer_root(files);
    yyjson_val *config = mf_tokenizer_config_root(files);
    take_name(yyjson_obj_get(yyjson_obj_get(root, "model"), "unk_token"), &names->unk);
    MF_TRY(read_processor(yyjson_obj_get(root, "post_processor"), names, err));
    take_name(yyjson_obj_get(config, "unk_token"), &names->unk);
    take_name(yyjson_obj_get(config, "cls_token"), &names->first);
    take_name(yyjson_obj_get(config, "sep_token"), &names->sep);
    return MF_OK;
}

/* --- vocabulary ------------------------------------------------------------------- */

/* Entries by id; p is NULL where none was met yet. */
typedef struct entry_list {
    mf_str *entries;
    size_t max;
    size_t count; /* the highest id met, and one */
} entry_list;

static mf_rc enter(entry_list *list, mf_str entry, yyjson_val *id_value, mf_err *err) {
    if (!yyjson_is_uint(id_value) || yyjson_get_uint(id_value) >= list->max) {
        return MF_FAIL(err, MF_E_CORRUPT,
                       "tokenizer.json: the id of '%.*s' is outside 0..%zu",
                       MF_STR_ARGS(mf_str_sub(entry, 0, 64)), list->max - 1);
    }
    size_t id = (size_t)yyjson_get_uint(id_value);
    if (list->entries[id].p != NULL && !mf_str_eq(list->entries[id], entry)) {
        return MF_FAIL(err, MF_E_CORRUPT,
                       "tokenizer.json: '%.*s' and '%.*s' have the same id",
                       MF_STR_ARGS(mf_str_sub(entry, 0, 64)),
                       MF_STR_ARGS(mf_str_sub(list->entries[id], 0, 64)));
    }
    if (memchr(entry.p, '\n', entry.len) != NULL) {
        return MF_FAIL(err, MF_E_CORRUPT,
                       "tokenizer.json: entry %zu holds the end of a line", id);
    }
    list->entries[id] = entry;
    list->count = id + 1 > list->count ? id + 1 : list->count;
    return MF_OK;
}

static mf_rc gather(yyjson_val *vocab, yyjson_val *added, entry_list *list,
                    mf_err *err) {
    yyjson_obj_iter iter = yyjson_obj_iter_with(vocab);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&iter)) != NULL;) {
        MF_TRY(enter(list, mf_json_text(key), yyjson_obj_iter_get_val(key), err));
    }
    size_t i, count;
    yyjson_val *token;
    yyjson_arr_foreach(added, i, count, token) {
        mf_str content = mf_json_text(yyjson_obj_get(token, "content"));
        if (content.p == NULL) {
            return MF_FAIL(err, MF_E_CORRUPT,
                           "tokenizer.json: an added token has no content");
        }
        MF_TRY(enter(list, content, yyjson_obj_get(token, "id"), err));
    }
    return MF_OK;
}

static mf_rc write_lines(const entry_list *list, mf_buf *out, mf_err *err) {
    for (size_t id = 0; id < list->count; id++) {
        if (list->entries[id].p == NULL) {
            return MF_FAIL(err, MF_E_CORRUPT, "tokenizer.json: no entry has the id %zu",
                           id);
        }
        (void)mf_buf_add_str(out, list->entries[id]); /* failed is looked at below */
        (void)mf_buf_add_str(out, MF_STR("\n"));
    }
    return out->failed == MF_OK
               ? MF_OK
               : MF_FAIL(err, out->failed, "the vocabulary of tokenizer.json");
}

mf_rc mf_tokenizer_vocab_lines(const mf_tokenizer_files *files, mf_buf *out,
                               mf_err *err) {
    yyjson_val *root = mf_tokenizer_root(files);
    yyjson_val *vocab = yyjson_obj_get(yyjson_obj_get(root, "model"), "vocab");
    yyjson_val *added = yyjson_obj_get(root, "added_tokens");
    if (!yyjson_is_obj(vocab) || yyjson_obj_size(vocab) == 0) {
        return MF_FAIL(err, MF_E_CORRUPT,
                       "tokenizer.json: model.vocab is not an object of entries");
    }
    /* Ids have no gaps, so none is higher than the count of all entries. */
    entry_list list = {.max = yyjson_obj_size(vocab) + yyjson_arr_size(added)};
    if (list.max > MF_VOCAB_COUNT_MAX) {
        return MF_FAIL(err, MF_E_CORRUPT,
                       "tokenizer.json: %zu entries, 1 to %d are possible", list.max,
                       MF_VOCAB_COUNT_MAX);
    }
    list.entries = mf_alloc_zero(list.max, sizeof *list.entries);
    if (list.entries == NULL) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for %zu entries", list.max);
    }
    mf_rc rc = gather(vocab, added, &list, err);
    if (rc == MF_OK) {
        rc = write_lines(&list, out, err);
    }
    mf_free(list.entries);
    return rc;
}
