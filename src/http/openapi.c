/* openapi.c - the API's description of itself, OpenAPI 3.1.
 *
 * Paths, methods, parameters and summaries come from routes.def; the shapes of bodies
 * are written here, in JSON with ' for " so that a person can read them.  The document
 * is made once, when the door opens. */
#include "http/openapi.h"

#include <ctype.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "http/router.h"

enum { DOCUMENT_MAX = 1 << 20 };

/* Query parameters by the names routes.def gives them; `name` is what is sent. */
static const struct parameter {
    const char *key, *name;
    bool required;
    const char *schema, *text;
} parameters[] = {
    {"name", "name", false, "{'type':'string'}",
     "Find the one of this name; 404 if there is none"},
    {"user_id", "user_id", false, "{'type':'string'}", "Only of this user"},
    {"stats_user_id", "user_id", true, "{'type':'string'}", "Whose chunks are counted"},
    {"agent_id", "agent_id", false, "{'type':'string'}", "Only of this agent"},
    {"session_id", "session_id", false, "{'type':'string'}", "Only of this session"},
    {"limit", "limit", false, "{'type':'integer','minimum':1,'default':20}",
     "Most items; more than 100 counts as 100"},
    {"sort_by", "sort_by", false, "{'enum':['timestamp','id'],'default':'timestamp'}",
     "Order of messages"},
    {"chunk_sort_by", "sort_by", false,
     "{'enum':['created_at','chunk_id','strategy'],'default':'created_at'}",
     "Order of chunks"},
    {"order", "order", false, "{'enum':['asc','desc'],'default':'desc'}",
     "Direction of the order"},
    {"buffer_only", "buffer_only", false, "{'type':'boolean'}",
     "true: the recent window only; false: all but the window; absent: everything"},
    {"store_type", "store_type", false,
     "{'enum':['vector','keyword','graph','hybrid']}", "Only chunks found this way"},
    {"recent", "recent", false, "{'type':'integer','minimum':1,'maximum':1000}",
     "Also show so many of the newest requests, errors, figures and agents"},
    {"job_state", "state", false, "{'enum':['open','running','dead']}",
     "Only jobs in this state"},
    {"job_kind", "kind", false, "{'type':'string'}", "Only jobs of this kind"},
    {"timeout_ms", "timeout_ms", false, "{'type':'integer','minimum':0}",
     "Longest wait; the request's own time-out still counts"},
};

static const char *const schemas[] = {
    "'Id':{'type':'string'}",
    "'Time':{'type':'string','format':'date-time','description':'UTC with "
    "microseconds'}",
    "'Problem':{'type':'object','required':['field','message'],'properties':{"
    "'field':{'type':'string'},'message':{'type':'string'}}}",
    "'Envelope':{'type':'object','required':['status','code','data','message','errors']"
    ","
    "'properties':{'status':{'enum':['success','error']},'code':{'type':'integer'},"
    "'data':{'type':['object','null']},'message':{'type':'string'},"
    "'errors':{'type':['array','null'],'items':{'$ref':'#/components/schemas/"
    "Problem'}}}}",
    "'Error':{'allOf':[{'$ref':'#/components/schemas/Envelope'},{'type':'object',"
    "'properties':{'status':{'const':'error'},'data':{'type':'null'},'detail':{}}}]}",
    "'Health':{'type':'object','required':['status','config','version'],'properties':{"
    "'status':{'const':'ok'},'config':{'type':'object'},'version':{'type':'string'}}}",
    "'Named':{'type':'object','required':['id','name','description','created_at',"
    "'updated_at'],'properties':{'id':{'$ref':'#/components/schemas/Id'},"
    "'name':{'type':'string'},'description':{'type':['string','null']},"
    "'created_at':{'$ref':'#/components/schemas/Time'},"
    "'updated_at':{'$ref':'#/components/schemas/Time'}}}",
    "'NamedCreate':{'type':'object','required':['name'],'properties':{"
    "'name':{'type':'string','minLength':1},'description':{'type':['string','null']}}}",
    "'NamedUpdate':{'type':'object','properties':{'name':{'type':['string','null'],"
    "'minLength':1},'description':{'type':['string','null']}}}",
    "'Session':{'type':'object','required':['id','user_id','agent_id','name','created_"
    "at',"
    "'updated_at'],'properties':{'id':{'$ref':'#/components/schemas/Id'},"
    "'user_id':{'$ref':'#/components/schemas/Id'},"
    "'agent_id':{'$ref':'#/components/schemas/Id'},'name':{'type':'string'},"
    "'created_at':{'$ref':'#/components/schemas/Time'},"
    "'updated_at':{'$ref':'#/components/schemas/Time'}}}",
    "'SessionCreate':{'type':'object','required':['user_id','agent_id'],'properties':{"
    "'user_id':{'$ref':'#/components/schemas/Id'},"
    "'agent_id':{'$ref':'#/components/schemas/Id'},"
    "'name':{'type':['string','null'],'minLength':1,"
    "'description':'null: the server makes one'}}}",
    "'SessionUpdate':{'type':'object','properties':{"
    "'name':{'type':['string','null'],'minLength':1}}}",
    "'Role':{'enum':['user','assistant','system']}",
    "'NewMessage':{'type':'object','required':['role','content'],'properties':{"
    "'role':{'$ref':'#/components/schemas/"
    "Role'},'content':{'type':'string','minLength':1},"
    "'metadata':{'type':['object','null'],'maxProperties':64}}}",
    "'Message':{'type':'object','required':['id','session_id','role','content',"
    "'created_at','updated_at'],'properties':{'id':{'$ref':'#/components/schemas/Id'},"
    "'session_id':{'$ref':'#/components/schemas/Id'},"
    "'role':{'$ref':'#/components/schemas/Role'},'content':{'type':'string'},"
    "'created_at':{'$ref':'#/components/schemas/Time'},"
    "'updated_at':{'$ref':'#/components/schemas/Time'},"
    "'metadata':{'type':'object','description':'only when one was sent'}}}",
    "'MessagesAdd':{'type':'object','required':['messages'],'properties':{'messages':{"
    "'type':'array','maxItems':10000,'items':{'$ref':'#/components/schemas/"
    "NewMessage'}}}}",
    "'MessagesAdded':{'type':'object','required':['message_ids'],'properties':{"
    "'message_ids':{'type':'array','items':{'$ref':'#/components/schemas/Id'}},"
    "'transfer_triggered':{'type':'boolean'},'background_queued':{'type':'boolean'},"
    "'total_messages':{'type':'integer'},"
    "'buffer_status':{'type':'object','properties':{'rounds':{'type':'integer'},"
    "'tokens':{'type':'integer'}}}}}",
    "'MessageIds':{'type':'object','required':['message_ids'],'properties':{"
    "'message_ids':{'type':'array','maxItems':10000,"
    "'items':{'$ref':'#/components/schemas/Id'}}}}",
    "'MessagesUpdate':{'type':'object','required':['message_ids','new_messages'],"
    "'properties':{'message_ids':{'type':'array','items':{'$ref':'#/components/schemas/"
    "Id'}},"
    "'new_messages':{'type':'array','items':{'$ref':'#/components/schemas/"
    "NewMessage'}}}}",
    "'Knowledge':{'type':'object','required':['id','user_id','content','created_at',"
    "'updated_at'],'properties':{'id':{'$ref':'#/components/schemas/Id'},"
    "'user_id':{'$ref':'#/components/schemas/Id'},'content':{'type':'string'},"
    "'created_at':{'$ref':'#/components/schemas/Time'},"
    "'updated_at':{'$ref':'#/components/schemas/Time'}}}",
    "'KnowledgeAdd':{'type':'object','required':['knowledge'],'properties':{'knowledge'"
    ":{"
    "'type':'array','maxItems':10000,'items':{'type':'string'}}}}",
    "'KnowledgeIds':{'type':'object','required':['knowledge_ids'],'properties':{"
    "'knowledge_ids':{'type':'array','items':{'$ref':'#/components/schemas/Id'}}}}",
    "'KnowledgeUpdate':{'type':'object','required':['knowledge_ids','new_knowledge'],"
    "'properties':{'knowledge_ids':{'type':'array',"
    "'items':{'$ref':'#/components/schemas/Id'}},"
    "'new_knowledge':{'type':'array','items':{'type':'string'}}}}",
    "'Query':{'type':'object','required':['query'],'properties':{'query':{'type':'"
    "string'},"
    "'session_id':{'type':['string','null'],'description':'tags results, does not "
    "filter'},"
    "'agent_id':{'type':['string','null'],'description':'only sessions of this agent'},"
    "'top_k':{'type':['integer','null'],'default':5},"
    "'store_type':{'enum':['vector','keyword','graph',null],'default':null},"
    "'sort_by':{'enum':['score','timestamp',null],'default':null},"
    "'order':{'enum':['desc','asc',null],'default':null},"
    "'include_messages':{'type':['boolean','null'],'default':true},"
    "'include_knowledge':{'type':['boolean','null'],'default':true}}}",
    "'QueryResults':{'type':'object','required':['results','total'],'properties':{"
    "'results':{'type':'array','items':{'$ref':'#/components/schemas/QueryResult'}},"
    "'total':{'type':'integer'}}}",
    "'QueryResult':{'type':'object','required':['id','content','score','type','role',"
    "'created_at','updated_at','metadata'],'properties':{"
    "'id':{'$ref':'#/components/schemas/Id'},'content':{'type':'string'},"
    "'score':{'type':'number','minimum':0,'maximum':1},"
    "'type':{'enum':['message','knowledge']},'role':{'type':['string','null']},"
    "'created_at':{'$ref':'#/components/schemas/Time'},"
    "'updated_at':{'$ref':'#/components/schemas/Time'},"
    "'metadata':{'type':'object','required':['user_id','level','retrieval'],'"
    "properties':{"
    "'user_id':{'type':'string'},'agent_id':{'type':['string','null']},"
    "'session_id':{'type':['string','null']},'session_name':{'type':['string','null']},"
    "'scope':{'enum':['in_session','cross_session',null]},'level':{'type':'integer'},"
    "'retrieval':{'type':'object','required':['source'],'properties':{"
    "'source':{'type':'string'},'similarity':{'type':'number'},"
    "'store_type':{'type':'string'}}},'source':{'type':'string'}}}}}",
    "'Chunk':{'type':'object','required':['chunk_id','content','metadata'],'properties'"
    ":{"
    "'chunk_id':{'type':'string'},'content':{'type':'string'},"
    "'metadata':{'type':'object'}}}",
    "'Chunks':{'type':'object','required':['chunks','total_count','store_type'],"
    "'properties':{'chunks':{'type':'array','items':{'$ref':'#/components/schemas/"
    "Chunk'}},"
    "'total_count':{'type':'integer'},'session_id':{'type':'string'},"
    "'round_id':{'type':'string'},'store_type':{'type':'string'}}}",
    "'ChunkStats':{'type':'object','required':['total_chunks','by_store','filters'],"
    "'properties':{'total_chunks':{'type':'integer'},'by_store':{'type':'object'},"
    "'filters':{'type':'object'}}}",
    "'ApiKeyCreate':{'type':'object','properties':{'user_id':{'type':['string','null']}"
    ","
    "'name':{'type':['string','null']},'permissions':{'type':['object','null']},"
    "'expires_at':{'type':['string','null'],'format':'date-time'}}}",
    "'ApiKey':{'type':'object','required':['id','user_id','name','key','permissions',"
    "'created_at','expires_at'],'properties':{'id':{'$ref':'#/components/schemas/Id'},"
    "'user_id':{'$ref':'#/components/schemas/Id'},'name':{'type':['string','null']},"
    "'key':{'type':'string','description':'in clear only in the reply that makes it'},"
    "'permissions':{'type':['object','null']},"
    "'created_at':{'$ref':'#/components/schemas/Time'},"
    "'expires_at':{'type':['string','null'],'format':'date-time'}}}",
    "'Status':{'type':'object','required':['version','uptime_ms'],'properties':{"
    "'version':{'type':'string'},'uptime_ms':{'type':'integer'}}}",
    "'Flag':{'type':'boolean'}",
    "'Job':{'type':'object','required':['id','user_id','kind','state','priority',"
    "'failures','created_at','due_at'],'properties':{"
    "'id':{'$ref':'#/components/schemas/Id'},"
    "'user_id':{'type':['string','null'],'description':'null: of nobody in particular'"
    "},"
    "'kind':{'type':'string'},'state':{'enum':['open','running','dead']},"
    "'priority':{'type':'integer'},'runs':{'type':'integer'},"
    "'failures':{'type':'integer'},'lost':{'type':'integer'},"
    "'created_at':{'$ref':'#/components/schemas/Time'},"
    "'due_at':{'$ref':'#/components/schemas/Time'},"
    "'key':{'type':['string','null']},'payload':{'type':'string'},"
    "'error':{'type':['string','null'],'description':'of the last failure'}}}",
    "'Jobs':{'type':'object','required':['jobs','kinds'],'properties':{"
    "'jobs':{'type':'array','items':{'$ref':'#/components/schemas/Job'}},"
    "'kinds':{'type':'array','items':{'type':'object','required':['kind','open',"
    "'running','dead'],'properties':{'kind':{'type':'string'},"
    "'open':{'type':'integer'},'running':{'type':'integer'},"
    "'dead':{'type':'integer'}}}}}}",
    "'Memory':{'type':'object','required':['budget','cleanup','monitor','cache_stats',"
    "'collections'],'properties':{'budget':{'type':'object'},'cleanup':{'type':'object'"
    "},"
    "'monitor':{'type':'object'},'cache_stats':{'type':'object'},"
    "'collections':{'type':'object'},'recent':{'type':'object'}}}",
    "'MemoryCleanup':{'type':'object','required':['forced','memory_before_mb',"
    "'memory_after_mb','memory_freed_mb','objects_collected','duration_seconds',"
    "'cleanup_count'],'properties':{'forced':{'type':'boolean'},"
    "'memory_before_mb':{'type':'number'},'memory_after_mb':{'type':'number'},"
    "'memory_freed_mb':{'type':'number'},'objects_collected':{'type':'integer'},"
    "'duration_seconds':{'type':'number'},'cleanup_count':{'type':'integer'}}}",
    "'ImportLines':{'type':'string','description':'JSON Lines, one message each: user, "
    "session, role, content, and if wanted agent, created_at, metadata, round'}",
    "'Imported':{'type':'object','required':['imported','users','sessions'],'"
    "properties':{"
    "'imported':{'type':'integer'},'users':{'type':'integer'},"
    "'sessions':{'type':'integer'}}}",
    "'UserSetting':{'type':'object','required':['key','value','layer','global','user'],"
    "'properties':{'key':{'type':'string'},'value':{'type':'string'},"
    "'layer':{'enum':['user','global']},'global':{'type':'string'},"
    "'global_source':{'type':'string'},'user':{'type':['string','null']},"
    "'request_parameter':{'type':['string','null']},"
    "'default':{'type':'string'},'type':{'type':'string'},'range':{'type':'string'},"
    "'help':{'type':'string'}}}",
    "'UserSettings':{'type':'object','required':['user_id','settings'],'properties':{"
    "'user_id':{'$ref':'#/components/schemas/Id'},'settings':{'type':'array','items':{"
    "'$ref':'#/components/schemas/UserSetting'}}}}",
    "'UserSettingValue':{'type':'object','required':['value'],'properties':{'value':{"
    "'type':['string','number','boolean']}}}",
    "'UserSettingsChange':{'type':'object','additionalProperties':{"
    "'type':['string','number','boolean','null']}}",
    "'ModelPreload':{'type':'object','required':['model'],'properties':{'model':{"
    "'type':'string','minLength':1,'description':'folder under DATA/models, or a "
    "path'}}}",
    "'Models':{'type':'object','required':['models','expected','actual'],'properties':{"
    "'models':{'type':'array','items':{'type':'object','properties':{"
    "'name':{'type':'string'},'path':{'type':'string'},"
    "'task':{'enum':['encode','rank']},'precision':{'type':'string'},"
    "'weight_bytes':{'type':'integer'},'users':{'type':'integer'},"
    "'preloaded':{'type':'boolean'},'hits':{'type':'integer'},"
    "'load_ms':{'type':'number'}}}},"
    "'expected':{'type':'integer'},'actual':{'type':'integer'},"
    "'released':{'type':'integer'},'stayed':{'type':'integer'}}}",
    "'Reloaded':{'type':'object','required':['changed'],'properties':{'changed':{"
    "'type':'array','items':{'type':'string'}}}}",
};

/* Appends JSON written with ' for ". */
static void add_json(mf_buf *out, const char *text) {
    for (const char *p = text; *p != '\0'; p++) {
        (void)mf_buf_add(out, *p == '\'' ? "\"" : p, 1);
    }
}

/* "[Schema]" or "Schema". */
static void add_reference(mf_buf *out, mf_str name) {
    bool list = mf_str_starts(name, MF_STR("["));
    if (list) {
        name = mf_str_sub(name, 1, name.len - 2);
        add_json(out, "{'type':'array','items':");
    }
    (void)mf_buf_printf(out, "{\"$ref\":\"#/components/schemas/%.*s\"}",
                        MF_STR_ARGS(name));
    add_json(out, list ? "}" : "");
}

/* "key:Schema" is an object of that one key, "Schema" the schema itself. */
static void add_data_schema(mf_buf *out, const char *data) {
    mf_str rest = mf_str_from(data);
    mf_str key = mf_str_split(&rest, ':');
    if (rest.len == 0) {
        add_reference(out, key);
        return;
    }
    (void)mf_buf_printf(out,
                        "{\"type\":\"object\",\"required\":[\"%.*s\"],\"properties\":"
                        "{\"%.*s\":",
                        MF_STR_ARGS(key), MF_STR_ARGS(key));
    add_reference(out, rest);
    add_json(out, "}}");
}

static void add_path_parameters(mf_buf *out, const char *pattern,
                                const char **separator) {
    mf_str rest = mf_str_from(pattern);
    while (rest.len > 0) {
        mf_str part = mf_str_split(&rest, '/');
        if (mf_str_starts(part, MF_STR("{"))) {
            mf_str name = mf_str_sub(part, 1, part.len - 2);
            (void)mf_buf_printf(
                out,
                "%s{\"name\":\"%.*s\",\"in\":\"path\",\"required\":true,"
                "\"schema\":{\"type\":\"string\"}}",
                *separator, MF_STR_ARGS(name));
            *separator = ",";
        }
    }
}

static void add_query_parameters(mf_buf *out, const char *names,
                                 const char **separator) {
    mf_str rest = mf_str_from(names);
    while (rest.len > 0) {
        mf_str key = mf_str_split(&rest, ' ');
        for (size_t i = 0; i < sizeof parameters / sizeof parameters[0]; i++) {
            const struct parameter *p = &parameters[i];
            if (mf_str_eq(key, mf_str_from(p->key))) {
                (void)mf_buf_printf(
                    out,
                    "%s{\"name\":\"%s\",\"in\":\"query\",\"required\":%s,"
                    "\"description\":\"%s\",\"schema\":",
                    *separator, p->name, p->required ? "true" : "false", p->text);
                add_json(out, p->schema);
                add_json(out, "}");
                *separator = ",";
            }
        }
    }
}

static void add_request_body(mf_buf *out, const mf_route *route) {
    if (route->body[0] == '\0') {
        return;
    }
    bool lines = strcmp(route->body, "ImportLines") == 0;
    (void)mf_buf_printf(out, ",\"requestBody\":{\"content\":{\"%s\":{\"schema\":",
                        lines ? "application/x-ndjson" : "application/json");
    add_reference(out, mf_str_from(route->body));
    add_json(out, "}}}");
}

static void add_responses(mf_buf *out, const mf_route *route) {
    (void)mf_buf_printf(out, ",\"responses\":{\"%d\":{\"description\":\"%s\"",
                        route->success, "Success");
    if (route->data[0] != '\0') {
        add_json(out, ",'content':{'application/json':{'schema':{'allOf':["
                      "{'$ref':'#/components/schemas/Envelope'},"
                      "{'type':'object','properties':{'data':");
        add_data_schema(out, route->data);
        add_json(out, "}}]}}}");
    }
    add_json(out, "},'default':{'$ref':'#/components/responses/Error'}}");
}

/* "GET /users/{user_id}" becomes get_users_user_id. */
static void add_operation_id(mf_buf *out, const mf_route *route) {
    (void)mf_buf_printf(out, "\"operationId\":\"");
    for (const char *p = route->method; *p != '\0'; p++) {
        (void)mf_buf_printf(out, "%c", tolower((unsigned char)*p));
    }
    for (const char *p = route->pattern; *p != '\0'; p++) {
        if (*p != '{' && *p != '}') {
            (void)mf_buf_printf(out, "%c", isalnum((unsigned char)*p) ? *p : '_');
        }
    }
    (void)mf_buf_printf(out, "\"");
}

static void add_operation(mf_buf *out, const mf_route *route) {
    (void)mf_buf_printf(out, "\"");
    for (const char *p = route->method; *p != '\0'; p++) {
        (void)mf_buf_printf(out, "%c", tolower((unsigned char)*p));
    }
    (void)mf_buf_printf(out, "\":{");
    add_operation_id(out, route);
    mf_str rest = mf_str_sub(mf_str_from(route->pattern), 1, SIZE_MAX);
    mf_str tag = mf_str_split(&rest, '/');
    (void)mf_buf_printf(out, ",\"tags\":[\"%.*s\"],\"summary\":\"%s\",\"parameters\":[",
                        MF_STR_ARGS(tag), route->summary);
    const char *separator = "";
    add_path_parameters(out, route->pattern, &separator);
    add_query_parameters(out, route->parameters, &separator);
    add_json(out, "]");
    add_request_body(out, route);
    add_responses(out, route);
    if ((route->flags & MF_ROUTE_OPEN) != 0) {
        add_json(out, ",'security':[]");
    }
    add_json(out, "}");
}

/* True when an earlier row has the same pattern. */
static bool is_repeated(size_t index) {
    for (size_t i = 0; i < index; i++) {
        if (strcmp(mf_routes[i].pattern, mf_routes[index].pattern) == 0) {
            return true;
        }
    }
    return false;
}

static void add_paths(mf_buf *out) {
    const char *path_separator = "";
    for (size_t i = 0; i < mf_route_count; i++) {
        if (is_repeated(i)) {
            continue;
        }
        (void)mf_buf_printf(out, "%s\"/api/v1%s\":{", path_separator,
                            mf_routes[i].pattern);
        const char *separator = "";
        for (size_t k = i; k < mf_route_count; k++) {
            if (strcmp(mf_routes[k].pattern, mf_routes[i].pattern) == 0) {
                add_json(out, separator);
                add_operation(out, &mf_routes[k]);
                separator = ",";
            }
        }
        add_json(out, "}");
        path_separator = ",";
    }
}

mf_rc mf_openapi_build(mf_str *out, mf_err *err) {
    mf_buf doc;
    mf_buf_init(&doc, DOCUMENT_MAX);
    add_json(&doc,
             "{'openapi':'3.1.0','info':{'title':'MemFuse Server API','version':'");
    add_json(&doc, MF_VERSION);
    add_json(&doc,
             "','description':'Every path is answered with and without a slash at its "
             "end.  Keys are needed only when the server validates them.'},"
             "'security':[{},{'bearer':[]},{'header':[]}],'paths':{");
    add_paths(&doc);
    add_json(&doc, "},'components':{'securitySchemes':{'bearer':{'type':'http',"
                   "'scheme':'bearer'},'header':{'type':'apiKey','in':'header',"
                   "'name':'X-API-Key'}},'responses':{'Error':{'description':'Failure',"
                   "'content':{'application/json':{'schema':{"
                   "'$ref':'#/components/schemas/Error'}}}}},'schemas':{");
    for (size_t i = 0; i < sizeof schemas / sizeof schemas[0]; i++) {
        add_json(&doc, i > 0 ? "," : "");
        add_json(&doc, schemas[i]);
    }
    add_json(&doc, "}}}");
    if (doc.failed != MF_OK) {
        mf_rc rc = doc.failed;
        mf_buf_done(&doc);
        return MF_FAIL(err, rc, "no memory for the description of the API");
    }
    size_t len = 0;
    out->p = mf_buf_take(&doc, &len);
    out->len = len;
    return MF_OK;
}

void mf_openapi_free(mf_str *document) {
    union {
        const char *shared;
        void *owned;
    } text = {document->p};
    mf_free(text.owned);
    *document = MF_STR_NONE;
}
