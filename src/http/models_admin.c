/* models_admin.c - the models in memory: what they are, and who keeps them there. */
#include "base/clock.h"
#include "http/handlers.h"

static mf_rc runtime_of(mf_call *call, mf_runtime **out, mf_err *err) {
    *out = mf_service_runtime(call->door->service);
    return *out != NULL ? MF_OK
                        : MF_FAIL(err, MF_E_UNSUPPORTED, "this server has no runtime");
}

static void put_instance(mf_call *call, yyjson_mut_val *item,
                         const mf_model_instance *row) {
    mf_put_str(call, item, "name",
               mf_arena_str(call->request.arena, mf_str_from(row->info.name)));
    mf_put_str(call, item, "path",
               mf_arena_str(call->request.arena, mf_str_from(row->dir)));
    mf_put_str(call, item, "task",
               row->task == MF_TASK_RANK ? MF_STR("rank") : MF_STR("encode"));
    mf_put_str(call, item, "precision", mf_str_from(row->info.precision));
    mf_put_str(call, item, "kernel", mf_str_from(row->info.kernel));
    mf_put_u64(call, item, "dim", row->info.dim);
    mf_put_u64(call, item, "weight_bytes", row->info.weight_bytes);
    mf_put_u64(call, item, "users", row->users);
    mf_put_bool(call, item, "preloaded", row->pinned);
    mf_put_u64(call, item, "hits", row->hits);
    mf_put_real(call, item, "load_ms", (double)row->load_ns / MF_NS_PER_MS);
}

static void put_models(mf_call *call, mf_runtime *runtime) {
    mf_model_registry *models = mf_runtime_models(runtime);
    mf_model_instance rows[MF_MODELS_MAX];
    mf_model_registry_stats stats;
    size_t count = mf_model_registry_info(models, rows, MF_MODELS_MAX);
    mf_model_registry_get_stats(models, &stats);
    yyjson_mut_val *data = mf_call_data(call);
    yyjson_mut_val *list = mf_put_array(call, data, "models");
    for (size_t i = 0; i < count; i++) {
        put_instance(call, mf_add_object(call, list), &rows[i]);
    }
    mf_put_u64(call, data, "expected", stats.expected);
    mf_put_u64(call, data, "actual", stats.actual);
    mf_put_u64(call, data, "bytes", stats.bytes);
    mf_put_u64(call, data, "hits", stats.hits);
    mf_put_u64(call, data, "shared_loads", stats.shared_loads);
    mf_put_u64(call, data, "aliases", stats.aliases);
    mf_put_u64(call, data, "loads", stats.loads);
    mf_put_u64(call, data, "outside", stats.outside);
    mf_put_u64(call, data, "failed", stats.failed);
    mf_put_u64(call, data, "released", stats.released);
}

mf_rc mf_handle_models_info(mf_call *call, mf_err *err) {
    mf_runtime *runtime;
    MF_TRY(runtime_of(call, &runtime, err));
    put_models(call, runtime);
    return mf_call_ok(call, 200, "Models retrieved successfully");
}

mf_rc mf_handle_models_preload(mf_call *call, mf_err *err) {
    const mf_text_rule rule = {.required = true, .bytes_max = MF_NAME_BYTES_MAX};
    mf_runtime *runtime;
    mf_str name;
    MF_TRY(mf_call_read_body(call, err));
    MF_TRY(mf_call_text(call, "model", rule, &name, err));
    MF_TRY(runtime_of(call, &runtime, err));
    MF_TRY(mf_runtime_preload(runtime, name, err));
    put_models(call, runtime);
    return mf_call_ok(call, 200, "Model is in memory");
}

mf_rc mf_handle_models_clear(mf_call *call, mf_err *err) {
    mf_runtime *runtime;
    mf_model_cleared cleared;
    MF_TRY(runtime_of(call, &runtime, err));
    mf_model_registry_clear(mf_runtime_models(runtime), &cleared);
    yyjson_mut_val *data = mf_call_data(call);
    mf_put_u64(call, data, "released", cleared.released);
    mf_put_u64(call, data, "released_bytes", cleared.released_bytes);
    mf_put_u64(call, data, "stayed", cleared.stayed);
    mf_put_u64(call, data, "stayed_bytes", cleared.stayed_bytes);
    put_models(call, runtime);
    return mf_call_ok(call, 200, "Models nobody uses are released");
}
