/* model_pull.c - fetches a model from a hub into a folder, whole or not at all.
 *
 * Everything happens in MODELS/.pull-NAME, which is kept when a pull fails so that the
 * next one goes on from there; a file in it says what it is of.  The small files come
 * first and are read: a network that memfuse cannot run is refused before its weights
 * are fetched.  The hub names a commit with the first file, and the others are asked
 * for at that commit, so that a model changed meanwhile cannot be mixed.
 *
 * A name on the hub becomes part of a path here.  So names are letters, digits and
 * "._-", do not begin with a dot, and everything else is refused. */
#include "memfuse/model.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "lib/download.h"
#include "lib/model_sums.h"
#include "lib/reply.h"
#include "model/encoder.h"
#include "model/encoder_config.h"
#include "os/file.h"
#include "os/folder.h"
#include "os/lock_file.h"

#define WEIGHTS_FILE "model.safetensors"
#define SOURCE_FILE ".source"
#define DEFAULT_OWNER "sentence-transformers"

enum {
    HUB_MAX = 512,
    NAME_MAX_LEN = 96, /* one part of a name */
    REPO_MAX = 2 * NAME_MAX_LEN + 2,
    REVISION_MAX = 128,
    URL_MAX = 2048,
    MODULES_MAX = 8, /* sentence-transformers models have three or four */
    SMALL_BYTES_MAX = 64 << 20,
    COMMIT_LEN = 40,
};
#define WEIGHTS_BYTES_MAX ((uint64_t)16 << 30)

/* What is fetched from where. */
typedef struct source {
    char hub[HUB_MAX];
    char repo[REPO_MAX];         /* "OWNER/NAME" */
    char revision[REVISION_MAX]; /* as asked for */
    char at[REVISION_MAX];       /* the commit, once the hub has named it */
    char name[NAME_MAX_LEN + 1]; /* of the folder */
} source;

typedef struct pull {
    const mf_model_pull_options *options;
    source from;
    char place[MF_PATH_MAX];   /* MODELS/NAME */
    char staging[MF_PATH_MAX]; /* MODELS/.pull-NAME */
    mf_lock_file *lock;
    mf_downloader *down;
    mf_buf sums; /* what becomes SHA256SUMS */
    size_t files;
    uint64_t bytes;
} pull;

/* --- names -------------------------------------------------------------------------
 */

static bool is_plain_name(mf_str s) {
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!letter && !(c >= '0' && c <= '9') && c != '.' && c != '_' && c != '-') {
            return false;
        }
    }
    return s.len > 0 && s.len <= NAME_MAX_LEN && s.p[0] != '.';
}

/* Plain names with slashes between them: branches have such names, and folders. */
static bool is_plain_path(mf_str s) {
    if (s.len == 0) {
        return false;
    }
    while (s.p != NULL) {
        if (!is_plain_name(mf_str_split(&s, '/'))) {
            return false;
        }
    }
    return true;
}

static bool is_web_address(mf_str s) {
    return mf_str_starts(s, MF_STR("https://")) || mf_str_starts(s, MF_STR("http://"));
}

static mf_str trim_slashes(mf_str s) {
    while (s.len > 0 && s.p[s.len - 1] == '/') {
        s.len--;
    }
    return s;
}

static mf_rc set_hub(source *from, mf_str hub, mf_err *err) {
    hub = trim_slashes(hub);
    bool plain = is_web_address(hub) && hub.len < sizeof from->hub &&
                 mf_str_find(hub, MF_STR("//"), 0) + 2 < hub.len;
    for (size_t i = 0; plain && i < hub.len; i++) {
        plain =
            hub.p[i] > ' ' && hub.p[i] < 0x7F && strchr("@?#\"\\", hub.p[i]) == NULL;
    }
    if (!plain) {
        return MF_FAIL_FIELD(err, MF_E_INVAL, "hub",
                             "'%.*s' is no hub: https://HOST is wanted",
                             MF_STR_ARGS(hub));
    }
    (void)snprintf(from->hub, sizeof from->hub, "%.*s", MF_STR_ARGS(hub));
    return MF_OK;
}

static mf_rc set_repo(source *from, mf_str repo, mf_err *err) {
    mf_str name = repo;
    mf_str owner = mf_str_split(&name, '/');
    if (name.p == NULL) {
        name = owner;
        owner = MF_STR(DEFAULT_OWNER);
    }
    if (!is_plain_name(owner) || !is_plain_name(name)) {
        return MF_FAIL_FIELD(err, MF_E_INVAL, "model",
                             "'%.*s' is no model's name: OWNER/NAME or NAME is wanted",
                             MF_STR_ARGS(repo));
    }
    (void)snprintf(from->repo, sizeof from->repo, "%.*s/%.*s", MF_STR_ARGS(owner),
                   MF_STR_ARGS(name));
    (void)snprintf(from->name, sizeof from->name, "%.*s", MF_STR_ARGS(name));
    return MF_OK;
}

static mf_rc set_revision(source *from, mf_str revision, mf_err *err) {
    if (!is_plain_path(revision) || revision.len >= sizeof from->revision) {
        return MF_FAIL_FIELD(err, MF_E_INVAL, "revision",
                             "'%.*s' is no revision: a branch, tag or commit is wanted",
                             MF_STR_ARGS(revision));
    }
    (void)snprintf(from->revision, sizeof from->revision, "%.*s",
                   MF_STR_ARGS(revision));
    return MF_OK;
}

/* "https://HOST[/PATH]/OWNER/NAME[/tree/REVISION]" */
static mf_rc read_page(source *from, mf_str page, mf_err *err) {
    size_t end = mf_str_find(page, MF_STR("?"), 0);
    page = mf_str_sub(page, 0, end);
    page = mf_str_sub(page, 0, mf_str_find(page, MF_STR("#"), 0));
    size_t tree = mf_str_find(page, MF_STR("/tree/"), 0);
    if (tree != SIZE_MAX) {
        MF_TRY(set_revision(from, trim_slashes(mf_str_sub(page, tree + 6, page.len)),
                            err));
        page = mf_str_sub(page, 0, tree);
    }
    page = trim_slashes(page);
    size_t slash = page.len; /* where the last two parts begin */
    for (int parts = 0; parts < 2 && slash > 0;) {
        parts += page.p[--slash] == '/';
    }
    MF_TRY(set_repo(from, mf_str_sub(page, slash + 1, page.len), err));
    return set_hub(from, mf_str_sub(page, 0, slash), err);
}

static mf_rc read_source(const char *model, const mf_model_pull_options *options,
                         source *from, mf_err *err) {
    mf_str text = mf_str_from(model);
    (void)snprintf(from->revision, sizeof from->revision, "main");
    if (is_web_address(text)) {
        MF_TRY(read_page(from, text, err));
    } else {
        MF_TRY(set_repo(from, text, err));
        MF_TRY(set_hub(
            from,
            mf_str_from(options->hub != NULL ? options->hub : MF_MODEL_HUB_DEFAULT),
            err));
    }
    if (options->revision != NULL) {
        MF_TRY(set_revision(from, mf_str_from(options->revision), err));
    }
    if (options->name != NULL) {
        if (!is_plain_name(mf_str_from(options->name))) {
            return MF_FAIL_FIELD(err, MF_E_INVAL, "name",
                                 "'%s' is no name for a folder: letters, digits and "
                                 "._- are wanted",
                                 options->name);
        }
        (void)snprintf(from->name, sizeof from->name, "%s", options->name);
    }
    (void)snprintf(from->at, sizeof from->at, "%s", from->revision);
    return MF_OK;
}

/* --- one file ----------------------------------------------------------------------
 */

/* A branch's slashes are not the path's. */
static void make_url(const source *from, const char *name, char url[URL_MAX]) {
    char revision[3 * REVISION_MAX];
    size_t n = 0;
    for (const char *c = from->at; *c != '\0'; c++) {
        n += (size_t)snprintf(revision + n, sizeof revision - n,
                              *c == '/' ? "%%2F" : "%c", *c);
    }
    revision[n] = '\0';
    (void)snprintf(url, URL_MAX, "%s/%s/resolve/%s/%s", from->hub, from->repo, revision,
                   name);
}

/* From the first answer that names one on, files are asked for at that commit. */
static void pin(source *from, const char *commit) {
    size_t len = strlen(commit);
    if (len == COMMIT_LEN && strspn(commit, "0123456789abcdef") == len) {
        (void)snprintf(from->at, sizeof from->at, "%s", commit);
    }
}

static mf_rc get(pull *p, const char *name, uint64_t bytes_max, mf_err *err) {
    char url[URL_MAX];
    char path[MF_PATH_MAX];
    mf_download_result result;
    MF_TRY(mf_path_join(path, sizeof path, p->staging, name, err));
    make_url(&p->from, name, url);
    mf_download file = {.url = url,
                        .path = path,
                        .what = name,
                        .bytes_max = bytes_max,
                        .progress = &p->options->progress};
    MF_TRY(mf_downloader_get(p->down, &file, &result, err));
    pin(&p->from, result.commit);
    p->files++;
    p->bytes += result.bytes;
    (void)mf_buf_printf(&p->sums, "%s  %s\n", result.sha256, name);
    return MF_OK;
}

static mf_rc get_small(pull *p, const char *name, bool *found, mf_err *err) {
    mf_rc rc = get(p, name, SMALL_BYTES_MAX, err);
    *found = rc == MF_OK;
    return rc == MF_E_NOTFOUND ? MF_OK : rc;
}

/* --- the small files ---------------------------------------------------------------
 */

static mf_rc get_config(pull *p, mf_err *err) {
    mf_rc rc = get(p, "config.json", SMALL_BYTES_MAX, err);
    /* Hubs answer for a model they do not know as for one they keep private. */
    if (rc == MF_E_NOTFOUND || rc == MF_E_DENIED) {
        return MF_FAIL(
            err, MF_E_NOTFOUND,
            "%s has no model '%s' with a config.json in its revision '%s', or "
            "keeps it private",
            p->from.hub, p->from.repo, p->from.revision);
    }
    return rc;
}

/* The config.json of each module that modules.json names a folder for. */
static mf_rc get_modules(pull *p, mf_arena *arena, mf_err *err) {
    char path[MF_PATH_MAX];
    mf_buf text;
    yyjson_doc *doc = NULL;
    mf_buf_init(&text, MF_ENCODER_JSON_MAX);
    mf_rc rc = mf_path_join(path, sizeof path, p->staging, "modules.json", err);
    if (rc == MF_OK) {
        rc = mf_file_read(path, &text, err);
    }
    if (rc == MF_OK) {
        rc = mf_json_parse(mf_buf_view(&text), arena, &doc, err);
        rc = rc == MF_E_FORMAT ? mf_err_wrap(err, MF_E_CORRUPT, "modules.json") : rc;
    }
    mf_buf_done(&text);
    MF_TRY(rc);
    size_t i = 0;
    size_t count = 0;
    yyjson_val *module = NULL;
    yyjson_arr_foreach(yyjson_doc_get_root(doc), i, count, module) {
        yyjson_val *value = yyjson_obj_get(module, "path");
        mf_str folder = {yyjson_get_str(value), yyjson_get_len(value)};
        char name[NAME_MAX_LEN + sizeof "/config.json"];
        bool found = false;
        if (folder.len == 0) {
            continue; /* the network itself */
        }
        if (!is_plain_name(folder) || i >= MODULES_MAX) {
            return MF_FAIL(err, MF_E_CORRUPT,
                           "modules.json: module %zu has a folder that is refused", i);
        }
        (void)snprintf(name, sizeof name, "%.*s", MF_STR_ARGS(folder));
        MF_TRY(mf_path_join(path, sizeof path, p->staging, name, err));
        MF_TRY(mf_dir_make(path, err));
        (void)snprintf(name, sizeof name, "%.*s/config.json", MF_STR_ARGS(folder));
        MF_TRY(get_small(p, name, &found, err));
        if (!found) {
            (void)rmdir(path); /* a module without settings, such as a norm */
        }
    }
    return MF_OK;
}

static mf_rc get_small_files(pull *p, mf_err *err) {
    static const char *const names[] = {"tokenizer_config.json",
                                        "special_tokens_map.json",
                                        "sentence_bert_config.json",
                                        "config_sentence_transformers.json",
                                        "tokenizer.json",
                                        "vocab.txt",
                                        "modules.json"};
    enum { NAMES = sizeof names / sizeof names[0] };
    bool found[NAMES];
    MF_TRY(get_config(p, err));
    for (size_t i = 0; i < NAMES; i++) {
        MF_TRY(get_small(p, names[i], &found[i], err));
    }
    if (!found[NAMES - 3] && !found[NAMES - 2]) {
        return MF_FAIL(err, MF_E_UNSUPPORTED,
                       "'%s' has neither a vocab.txt nor a tokenizer.json",
                       p->from.repo);
    }
    if (!found[NAMES - 1]) {
        return MF_OK;
    }
    mf_arena *arena = NULL;
    MF_TRY(mf_arena_new(SMALL_BYTES_MAX, &arena, err));
    mf_rc rc = get_modules(p, arena, err);
    mf_arena_free(arena);
    return rc;
}

/* --- weights, checks ---------------------------------------------------------------
 */

static mf_rc get_weights(pull *p, mf_err *err) {
    mf_rc rc = get(p, WEIGHTS_FILE, WEIGHTS_BYTES_MAX, err);
    if (rc == MF_E_NOTFOUND) {
        return MF_FAIL(err, MF_E_UNSUPPORTED,
                       "'%s' has no " WEIGHTS_FILE "; weights in other forms (PyTorch "
                       "pickles are programs) are not loaded",
                       p->from.repo);
    }
    return rc;
}

/* Opens what was fetched, which checks every tensor and packs the weights. */
static mf_rc try_model(const pull *p, const mf_encoder_config *config, mf_err *err) {
    mf_encoder *encoder = NULL;
    mf_encoder_options options = mf_encoder_options_default();
    options.task = config->labels > 0 ? MF_TASK_RANK : MF_TASK_ENCODE;
    MF_TRY(mf_encoder_open(p->staging, &options, &encoder, err));
    (void)mf_encoder_unref(encoder); /* always NULL */
    return MF_OK;
}

static mf_rc write_sums(pull *p, mf_err *err) {
    char path[MF_PATH_MAX];
    mf_buf text;
    mf_buf_init(&text, MF_SUMS_MAX);
    (void)mf_buf_printf(&text, "# %s/%s at %s\n", p->from.hub, p->from.repo,
                        p->from.at);
    (void)mf_buf_add_str(&text, mf_buf_view(&p->sums));
    mf_rc rc = p->sums.failed != MF_OK || text.failed != MF_OK
                   ? MF_FAIL(err, MF_E_NOMEM, "out of memory for the checksums")
                   : mf_path_join(path, sizeof path, p->staging, MF_SUMS_FILE, err);
    if (rc == MF_OK) {
        rc = mf_file_write_atomic(path, mf_buf_view(&text), err);
    }
    mf_buf_done(&text);
    return rc;
}

/* --- the folder it happens in ------------------------------------------------------
 */

/* Empties the staging folder of what another source left there. */
static mf_rc prepare_staging(pull *p, mf_err *err) {
    char path[MF_PATH_MAX];
    char wanted[HUB_MAX + REPO_MAX + REVISION_MAX + 8];
    mf_buf had;
    (void)snprintf(wanted, sizeof wanted, "%s/%s at %s\n", p->from.hub, p->from.repo,
                   p->from.revision);
    MF_TRY(mf_path_join(path, sizeof path, p->staging, SOURCE_FILE, err));
    mf_buf_init(&had, sizeof wanted);
    bool same = mf_file_exists(path) && mf_file_read(path, &had, NULL) == MF_OK &&
                mf_str_eq(mf_buf_view(&had), mf_str_from(wanted));
    mf_buf_done(&had);
    if (same) {
        return MF_OK;
    }
    MF_TRY(mf_folder_remove(p->staging, err));
    MF_TRY(mf_dir_make(p->staging, err));
    return mf_file_write_atomic(path, mf_str_from(wanted), err);
}

/* Removes what is of use only to a pull that goes on. */
static mf_rc tidy(const pull *p, mf_err *err) {
    static const char tag[] = ".tag";
    mf_str rest = mf_buf_view(&p->sums);
    mf_str sum;
    mf_str name;
    bool broken = false;
    char path[MF_PATH_MAX];
    while (mf_sums_next(&rest, &sum, &name, &broken)) {
        char tagged[NAME_MAX_LEN * 2];
        (void)snprintf(tagged, sizeof tagged, "%.*s%s", MF_STR_ARGS(name), tag);
        MF_TRY(mf_path_join(path, sizeof path, p->staging, tagged, err));
        (void)unlink(path); /* there is none for servers that name no version */
    }
    MF_TRY(mf_path_join(path, sizeof path, p->staging, SOURCE_FILE, err));
    (void)unlink(path);
    return mf_folder_sync(p->staging, err);
}

static mf_rc find_place(pull *p, mf_err *err) {
    char name[sizeof ".pull-" + NAME_MAX_LEN];
    const char *models = p->options->models;
    if (models == NULL) {
        return MF_FAIL_FIELD(err, MF_E_INVAL, "models",
                             "no folder to put the model in");
    }
    (void)snprintf(name, sizeof name, ".pull-%s", p->from.name);
    MF_TRY(mf_path_join(p->place, sizeof p->place, models, p->from.name, err));
    MF_TRY(mf_path_join(p->staging, sizeof p->staging, models, name, err));
    if (mf_file_exists(p->place) && !p->options->replace) {
        return MF_FAIL(err, MF_E_EXISTS, "'%s' is already there", p->place);
    }
    return mf_dir_make(models, err);
}

static mf_rc lock_models(pull *p, mf_err *err) {
    char path[MF_PATH_MAX];
    MF_TRY(mf_path_join(path, sizeof path, p->options->models, ".pull.lock", err));
    mf_rc rc = mf_lock_file_open(path, &p->lock, err);
    return rc == MF_E_LOCKED ? MF_FAIL(err, rc, "another pull into '%s' is under way",
                                       p->options->models)
                             : rc;
}

/* --- all of it ---------------------------------------------------------------------
 */

static mf_rc run_pull(pull *p, mf_err *err) {
    mf_encoder_config config;
    MF_TRY(find_place(p, err));
    MF_TRY(lock_models(p, err));
    MF_TRY(prepare_staging(p, err));
    mf_downloader_options options = {
        .allow_plain = mf_str_starts(mf_str_from(p->from.hub), MF_STR("http://")),
        .ca_file = p->options->ca_file};
    MF_TRY(mf_downloader_open(&options, &p->down, err));
    MF_TRY(get_small_files(p, err));
    mf_rc rc = mf_encoder_config_read(p->staging, &config, err);
    if (rc != MF_OK) {
        return mf_err_wrap(err, rc, "'%s' is not for memfuse", p->from.repo);
    }
    MF_TRY(get_weights(p, err));
    MF_TRY(try_model(p, &config, err));
    MF_TRY(write_sums(p, err));
    MF_TRY(tidy(p, err));
    return mf_folder_replace(p->staging, p->place, err);
}

static mf_rc tell_pull(const pull *p, char **json, mf_err *err) {
    mf_reply reply = {.arena = NULL};
    mf_rc rc = mf_reply_begin(&reply, err);
    if (rc == MF_OK) {
        yyjson_mut_doc *doc = reply.doc;
        yyjson_mut_val *root = yyjson_mut_obj(doc);
        yyjson_mut_doc_set_root(doc, root);
        mf_str from = mf_arena_printf(reply.arena, "%s/%s", p->from.hub, p->from.repo);
        (void)yyjson_mut_obj_add_str(doc, root, "name", p->from.name);
        (void)yyjson_mut_obj_add_str(doc, root, "path", p->place);
        (void)yyjson_mut_obj_add_str(doc, root, "source", from.p);
        (void)yyjson_mut_obj_add_str(doc, root, "commit", p->from.at);
        (void)yyjson_mut_obj_add_uint(doc, root, "files", p->files);
        (void)yyjson_mut_obj_add_uint(doc, root, "bytes", p->bytes);
        rc = mf_reply_end(&reply, json, err);
    }
    mf_reply_done(&reply);
    return rc;
}

mf_model_pull_options mf_model_pull_options_default(void) {
    return (mf_model_pull_options){.models = NULL};
}

int mf_model_pull(const char *model, const mf_model_pull_options *options, char **json,
                  char *error) {
    mf_err err = {0};
    pull *p = mf_alloc_zero(1, sizeof *p);
    if (p == NULL) {
        return mf_reply_error(&err, MF_FAIL(&err, MF_E_NOMEM, "out of memory"), error);
    }
    p->options = options;
    mf_buf_init(&p->sums, MF_SUMS_MAX);
    mf_rc rc = read_source(model, options, &p->from, &err);
    if (rc == MF_OK) {
        rc = run_pull(p, &err);
    }
    mf_downloader_close(p->down);
    mf_lock_file_close(p->lock);
    if (rc == MF_OK && json != NULL) {
        rc = tell_pull(p, json, &err);
    }
    mf_buf_done(&p->sums);
    mf_free(p);
    return mf_reply_error(&err, rc, error);
}
