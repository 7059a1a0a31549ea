/* api_keys.c - keys that name their owner: made, listed, deleted, checked.
 *
 *   mf_<key id, 32 hex digits>_<secret, 43 characters of base64url>
 *
 * The id finds the record, the secret proves the right to it.  The secret has 32 random
 * bytes, so a fast hash of it is enough (there is nothing to guess), and only that hash
 * is stored.  A key that is malformed, unknown, wrong or expired gets the same answer
 * after the same work: one lookup, one hash, one comparison in constant time. */
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "service/service_impl.h"

enum {
    SECRET_BYTES = 32,
    SECRET_TEXT = 43, /* of base64url without padding */
    ID_TEXT = 32,
    KEY_TEXT = 3 + ID_TEXT + 1 + SECRET_TEXT,
    AUTH_ARENA_MAX = 1 << 20
};
_Static_assert((int)KEY_TEXT < (int)MF_API_KEY_TEXT_MAX,
               "a key fits where it is handed out");
_Static_assert(sizeof(((mf_api_key_row *)0)->hash) == crypto_generichash_BYTES,
               "the stored hash has the hash's size");

typedef struct key_call {
    mf_uuid id, user_id;
    mf_arena *arena;
    mf_api_key_row row;
    mf_api_key_row *rows;
    size_t count;
} key_call;

static void hash_secret(const char secret[SECRET_TEXT], uint8_t hash[32]) {
    int rc = crypto_generichash(hash, crypto_generichash_BYTES,
                                (const unsigned char *)secret, SECRET_TEXT, NULL, 0);
    (void)rc; /* it fails only for sizes out of range, and these are constants */
}

/* --- create --- */

static void make_secret(mf_uuid id, char text[MF_API_KEY_TEXT_MAX], uint8_t hash[32]) {
    uint8_t bytes[SECRET_BYTES];
    char secret[sodium_base64_ENCODED_LEN(SECRET_BYTES,
                                          sodium_base64_VARIANT_URLSAFE_NO_PADDING)];
    char hex[2 * MF_UUID_BYTES + 1];
    mf_random_bytes(bytes, sizeof bytes);
    sodium_bin2base64(secret, sizeof secret, bytes, sizeof bytes,
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    sodium_bin2hex(hex, sizeof hex, id.b, sizeof id.b);
    (void)snprintf(text, MF_API_KEY_TEXT_MAX, "mf_%s_%s", hex, secret);
    hash_secret(secret, hash);
    sodium_memzero(bytes, sizeof bytes);
    sodium_memzero(secret, sizeof secret);
}

static mf_rc create_run(mf_conn *conn, void *ctx, mf_err *err) {
    key_call *call = ctx;
    mf_named_row user;
    MF_TRY(conn->ops->user_get(conn, call->row.user_id, call->arena, &user, err));
    return conn->ops->api_key_insert(conn, &call->row, err);
}

mf_rc mf_service_api_key_create(mf_service *service, mf_str user_id, mf_str name,
                                mf_str permissions, int64_t expires_us,
                                char secret[MF_API_KEY_TEXT_MAX], mf_arena *arena,
                                mf_api_key_row *out, mf_err *err) {
    mf_user *user;
    char text[MF_API_KEY_TEXT_MAX];
    key_call call = {.arena = arena};
    MF_TRY(mf_service_find_user(service, user_id, &user, err));
    call.row = (mf_api_key_row){
        .id = mf_uuid_new(),
        .user_id = mf_user_id(user),
        .name = name.p != NULL ? mf_arena_str(arena, name) : MF_STR_NONE,
        .permissions =
            permissions.p != NULL ? mf_arena_str(arena, permissions) : MF_STR_NONE,
        .created_us = mf_wall_us(),
        .expires_us = expires_us,
    };
    mf_user_unref(user);
    if ((name.p != NULL && call.row.name.p == NULL) ||
        (permissions.p != NULL && call.row.permissions.p == NULL)) {
        return MF_FAIL(err, MF_E_NOMEM, "no memory for an API key");
    }
    make_secret(call.row.id, text, call.row.hash);
    mf_task task = {.run = create_run, .ctx = &call};
    mf_rc rc = mf_service_write(service, &task, err);
    if (rc == MF_OK) {
        memcpy(secret, text, sizeof text);
        *out = call.row;
    }
    sodium_memzero(text, sizeof text);
    return rc == MF_E_NOTFOUND ? mf_service_user_missing(user_id, err) : rc;
}

/* --- list and delete --- */

static mf_rc list_read(mf_conn *conn, void *ctx, mf_err *err) {
    key_call *call = ctx;
    return conn->ops->api_key_list(conn, call->user_id, call->arena, &call->rows,
                                   &call->count, err);
}

mf_rc mf_service_api_key_list(mf_service *service, mf_str user_id, mf_arena *arena,
                              mf_api_key_row **rows, size_t *count, mf_err *err) {
    mf_user *user;
    MF_TRY(mf_service_find_user(service, user_id, &user, err));
    key_call call = {.user_id = mf_user_id(user), .arena = arena};
    mf_user_unref(user);
    MF_TRY(
        mf_service_read(service, mf_service_deadline(service), list_read, &call, err));
    *rows = call.rows;
    *count = call.count;
    return MF_OK;
}

static mf_rc key_missing(mf_str id, mf_err *err) {
    return MF_FAIL_FIELD(err, MF_E_NOTFOUND, "key_id",
                         "API key with ID '%.*s' not found", MF_STR_ARGS(id));
}

static mf_rc delete_run(mf_conn *conn, void *ctx, mf_err *err) {
    key_call *call = ctx;
    return conn->ops->api_key_delete(conn, call->user_id, call->id, err);
}

mf_rc mf_service_api_key_delete(mf_service *service, mf_str user_id, mf_str key_id,
                                mf_err *err) {
    mf_user *user;
    MF_TRY(mf_service_find_user(service, user_id, &user, err));
    key_call call = {.user_id = mf_user_id(user)};
    mf_user_unref(user);
    if (!mf_uuid_parse(key_id, &call.id)) {
        return key_missing(key_id, err);
    }
    mf_task task = {.run = delete_run, .ctx = &call};
    mf_rc rc = mf_service_write(service, &task, err);
    return rc == MF_E_NOTFOUND ? key_missing(key_id, err) : rc;
}

/* --- check --- */

static mf_rc get_read(mf_conn *conn, void *ctx, mf_err *err) {
    key_call *call = ctx;
    return conn->ops->api_key_get(conn, call->id, call->arena, &call->row, err);
}

/* Id and secret of a key's text.  A malformed one gives an id nobody has and a secret
 * that fits nothing, so that the caller goes the whole way with it. */
static bool take_apart(mf_str key, mf_uuid *id, char secret[SECRET_TEXT]) {
    *id = MF_UUID_NONE;
    memset(secret, 'x', SECRET_TEXT);
    if (key.len != KEY_TEXT || !mf_str_starts(key, MF_STR("mf_")) ||
        key.p[3 + ID_TEXT] != '_') {
        return false;
    }
    size_t bytes = 0;
    if (sodium_hex2bin(id->b, sizeof id->b, key.p + 3, ID_TEXT, NULL, &bytes, NULL) !=
            0 ||
        bytes != sizeof id->b) {
        *id = MF_UUID_NONE;
        return false;
    }
    memcpy(secret, key.p + 3 + ID_TEXT + 1, SECRET_TEXT);
    return true;
}

mf_rc mf_service_authenticate(mf_service *service, mf_str key, mf_uuid *user_id,
                              mf_err *err) {
    key_call call = {0};
    char secret[SECRET_TEXT];
    uint8_t hash[32];
    bool well_formed = take_apart(key, &call.id, secret);
    MF_TRY(mf_arena_new(AUTH_ARENA_MAX, &call.arena, err));
    mf_rc rc =
        mf_service_read(service, mf_service_deadline(service), get_read, &call, err);
    mf_arena_free(call.arena);
    if (rc != MF_OK && rc != MF_E_NOTFOUND) {
        return rc;
    }
    hash_secret(secret, hash);
    sodium_memzero(secret, sizeof secret);
    bool same = sodium_memcmp(hash, call.row.hash, sizeof hash) == 0;
    bool expired = call.row.expires_us != 0 && call.row.expires_us <= mf_wall_us();
    if (rc != MF_OK || !well_formed || !same || expired) {
        return MF_FAIL_FIELD(err, MF_E_AUTH, "api_key", "Invalid API key");
    }
    *user_id = call.row.user_id;
    return MF_OK;
}
