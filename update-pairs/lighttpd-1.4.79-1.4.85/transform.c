/*
 * lighttpd 1.4.79 to 1.4.85, under either mechanism; files and lines are those of 1.4.85
 * unless said otherwise.
 *
 * 1. Modules. The list of modules holds their data instead of records with functions
 *    (plugin.c), requests name their handler likewise (request.h), and the functions that
 *    prepare a reply form one list, which ends in functions of response.c.
 *    Data of modules stays where it is where both versions lay it out alike. Otherwise new
 *    code gets copies, and active frames of old code keep the old ones.
 * 2. Active frames of old code may be on their way through an old list of functions. Old
 *    lists get the new functions, and where they ended one that does what is left of the
 *    new list: plugins_call_handle_uri_clean and its like are gone.
 * 3. Header numbers (enum http_header_e) from EXPIRES to IF_UNMODIFIED_SINCE are one less.
 * 4. What only start-up code computes: settings, limits, the table of HTTP versions.
 */

#include "kairos_transform.h"

typedef struct kairos_new_server server;
typedef struct kairos_new_connection connection;
typedef struct kairos_new_request_st request;
typedef struct kairos_old_plugin old_plugin;
typedef struct kairos_new_plugin plugin;
typedef struct kairos_new_config_data_base config;

/* Records that both versions have alike. */
struct text { char *ptr; unsigned int used, size; };                    /* buffer */
struct entry { struct text key; void *fn; int type, ext; struct text value; }; /* data_string */
struct list { struct entry **data, **sorted; unsigned int used, size; };    /* array */
struct setting { int k_id, vtype; union { struct list *a; unsigned int u, u2[2]; } v; };
/* data_config of configfile.h, to its `comp_tag` */
struct condition { struct text key; void *fn; int type, context_ndx, comp, cond;
                   void *parent, *prev, *next; struct text string; int capture_idx, ext;
                   struct text comp_tag; };
struct hook { int (*fn)(request *, void *); void *data; };              /* plugin_fn_data */
struct scheme { const char *name; void *checkfn, *p_d; };
struct backend { const char *name; void *basic, *digest, *p_d; };
struct dispatch { void *process_streams, *upgrade_h2, *upgrade_h2c, *send_100_continue,
                  *send_1xx, *check_timeout, *goaway_graceful; };

/* What every module's data begins with (PLUGIN_DATA); `lib` is elsewhere and not used in
 * a static build. */
struct module { int id, nconfig; struct setting *cvlist; void *self; };

void *calloc(unsigned long count, unsigned long size);
void *memcpy(void *to, const void *from, unsigned long size);
int strcmp(const char *a, const char *b);

int plugins_call_init(server *srv);
void http_response_fn_init(server *srv);
int http_response_prepare_docroot(request *r, void *unused);
int http_response_prepare_physical(request *r, void *unused);
int http_response_prepare_subrequest_start(request *r, void *unused);
int http_response_prepare_fin(request *r, void *unused);
int config_feature_bool(const server *srv, const char *feature, int default_value);
void request_config_set_defaults(const void *config_defaults);
void http_request_trailer_set_whitelist(struct text *b);
struct entry *array_get_element_klen(const void *a, const char *key, unsigned int klen);
struct text *array_get_buf_ptr(void *a, const char *key, unsigned int klen);
void buffer_copy_string_len(struct text *b, const char *s, unsigned long len);
int http_header_hkey_get(const char *s, unsigned long slen);

extern struct scheme http_auth_schemes[8];
extern struct backend http_auth_backends[12];
extern struct dispatch http_dispatch[4];
extern const struct dispatch h2_dispatch_table;
extern const struct text default_server_tag;
extern request *reqpool;
extern unsigned long malloc_top_pad;

/* Numbers of headers in 1.4.79, and that of one that 1.4.85 added. */
enum { HTTP_HEADER_OTHER = 0, OLD_EXPECT_CT = 24, OLD_EXPIRES = 25, OLD_IF_UNMODIFIED_SINCE = 33 };
enum { INCREMENTAL = 33 };
enum { HTTP_VERSION_2 = 2, TYPE_STRING = 0, COMP_HTTP_REQUEST_HEADER = 12 };

enum { MOST = 64 };
static server *srv;
static unsigned int count;
static old_plugin *plugins[MOST];
static struct module *before[MOST], *after[MOST];

/* --- 1. modules --- */

#define OLD(name) struct kairos_old_plugin_data__src_mod_##name##_c_
#define NEW(name) struct kairos_new_plugin_data__src_mod_##name##_c_
#define STAYS(name) \
    (__builtin_offsetof(OLD(name), defaults) == __builtin_offsetof(NEW(name), defaults))
#define COPY(to, from) \
    ((void)sizeof(char[sizeof(to) == sizeof(from) ? 1 : -1]), memcpy(&(to), &(from), sizeof(to)))

/* Each module, and what its data holds behind `defaults`. */
#define MODULES(x) \
    x(access, ) \
    x(accesslog, new->default_format = old->default_format) \
    x(alias, ) \
    x(auth, ) \
    x(authn_file, ) \
    /* Frames that are in a listing take it off the old count. */ \
    x(dirlisting, new->processing = 0) \
    x(expire, (new->toffsets = old->toffsets, new->tused = old->tused)) \
    x(indexfile, ) \
    x(redirect, ) \
    x(rewrite, ) \
    x(setenv, ) \
    /* Its buffers are scratch space of requests, which keep pointers to the old ones. */ \
    x(ssi, (COPY(new->ssi_vars, old->ssi_vars), COPY(new->ssi_cgi_env, old->ssi_cgi_env))) \
    x(staticfile, )

/* Under own layouts: undoes the conversion of data that active frames led to, as they
 * alone go on with it, and makes the copy for new code. */
#define TAKE(name, rest) \
    static void restore_##name(OLD(name) *old, NEW(name) *new) \
    { \
        if (!STAYS(name)) \
            memcpy(new, old, sizeof *old); \
    } \
    static void *take_##name(void *data) \
    { \
        OLD(name) *old = data; \
        if (STAYS(name)) \
            return data; \
        NEW(name) *new = calloc(1, sizeof *new); \
        memcpy(new, old, sizeof(struct module)); \
        COPY(new->defaults, old->defaults); \
        rest; \
        return new; \
    } \
    extern const plugin mod_##name##_plugin;
MODULES(TAKE)

/* It has no data of its own, and nothing that would lead to it. */
extern const plugin mod_h2_plugin;
static void *take_h2(void *data)
{
    struct { struct module head; void *lib; } *new;
    if (STAYS(access))
        return data;
    new = calloc(1, sizeof *new);
    memcpy(new, data, sizeof new->head);
    return new;
}

#define ROW(name, rest) {#name, &mod_##name##_plugin, take_##name},
static const struct { const char *name; const plugin *functions; void *(*take)(void *); } modules[] = {
    MODULES(ROW) {"h2", &mod_h2_plugin, take_h2},
};

/* New code needs the old record no longer; active frames do, with its `data`. */
static void restore_plugin(struct kairos_old_plugin *old, struct kairos_new_plugin *new)
{
    if (sizeof *old != sizeof *new)
        memcpy(new, old, sizeof *old);
}

#define RESTORE(name, rest) kairos_each_plugin_data__src_mod_##name##_c_(restore_##name);
/* plugins_load, plugin_data_init: the list holds each module's data, which names its
 * functions. */
static void take_modules(void)
{
    void **list = srv->plugins.ptr;
    count = srv->plugins.used;
    if (count > MOST)
        __builtin_trap();
    kairos_each_plugin(restore_plugin);
    for (unsigned int i = 0; i < count; i++) {
        plugins[i] = list[i];
        before[i] = plugins[i]->data;
    }
    MODULES(RESTORE)
    for (unsigned int i = 0, k; i < count; i++) {
        for (k = 0; strcmp(modules[k].name, plugins[i]->name) != 0;)
            if (++k == sizeof modules / sizeof *modules)
                __builtin_trap();
        after[i] = modules[k].take(before[i]);
        if (after[i] != before[i]) {
            after[i]->self = (void *)modules[k].functions;
        } else {
            /* Old frames use `self` as well, and its `data`. */
            void *data = plugins[i]->data;
            memcpy(plugins[i], modules[k].functions, sizeof(plugin));
            plugins[i]->data = data;
        }
        list[i] = after[i];
    }
}

static struct module *module_of(const void *handler)
{
    for (unsigned int i = 0; i < count; i++)
        if (plugins[i] == handler)
            return after[i];
    return 0;
}

static struct module *module(const char *name)
{
    for (unsigned int i = 0; i < count; i++)
        if (strcmp(plugins[i]->name, name) == 0)
            return after[i];
    return 0;
}

/* The value of a setting in the global part of the configuration; none if it is not set. */
static struct setting *global_setting(struct module *of, int k_id)
{
    if (of->nconfig > 0 && of->cvlist->v.u2[1])
        for (struct setting *cpv = of->cvlist + of->cvlist->v.u2[0]; cpv->k_id != -1; cpv++)
            if (cpv->k_id == k_id)
                return cpv;
    return 0;
}

/* mod_auth.c:705: the functions that check a password get the settings in force instead
 * of the module's data. Old frames hand over what the scheme names; they have the
 * settings in `conf`. mod_authn_file.c:82: its functions get its data. */
static void set_auth(void)
{
    for (unsigned int i = 0; i < count; i++) {
        if (strcmp(plugins[i]->name, "auth") == 0)
            for (struct scheme *s = http_auth_schemes; s->name; s++)
                if (s->p_d == before[i])
                    s->p_d = &((OLD(auth) *)before[i])->conf;
        for (struct backend *b = http_auth_backends; b->name; b++)
            if (b->p_d == before[i])
                b->p_d = after[i];
    }
}

/* mod_staticfile.c:38: what was `disable_pathinfo` is turned round; where nothing is
 * set it is off now. */
static void set_pathinfo(void)
{
    struct module *of = module("staticfile");
    struct setting *set = of ? global_setting(of, 2) : 0;
    if (of)
        ((NEW(staticfile) *)of)->defaults.pathinfo = set && set->v.u == 0;
}

/* --- 2. lists of functions --- */

static struct hook *hooks(void *slots, int list)
{
    unsigned short offset = ((unsigned short *)slots)[list];
    return offset ? (struct hook *)((char *)slots + offset) : 0;
}

/* What is left of the new list from `data` on, as http_response_prepare has it. An old
 * frame may have named the handler in its own way. */
static int go_on(request *r, void *data)
{
    struct kairos_old_request_st *old = (void *)r;
    struct module *named = module_of(old->handler_module);
    int rc;
    if (named)
        r->handler_module = (void *)named;
    for (struct hook *hook = data; (rc = hook->fn(r, hook->data)) == 0; hook++) {}
    return rc;
}

static void set_hooks(void)
{
    static int (*const next[])(request *, void *) = {
        http_response_prepare_docroot, http_response_prepare_physical,
        http_response_prepare_subrequest_start, http_response_prepare_fin,
    };
    void *old_slots = srv->plugin_slots;
    plugins_call_init(srv);
    struct hook *at = hooks(srv->plugin_slots, 0);
    for (int list = 0; list < 16; list++) {
        struct hook *old = hooks(old_slots, list), *new = hooks(srv->plugin_slots, list);
        if (old && new)
            /* The first of all is http_response_config's. */
            for (new += list == 0; old->fn && new->fn; old++, new++)
                *old = *new;
        if (old && list < 4)
            *old = (struct hook){go_on, (void *)(long)list};
    }
    http_response_fn_init(srv);
    for (int list = 0; list < 4; list++) {
        struct hook *old = hooks(old_slots, list);
        while (at->fn != next[list])
            at++;
        while (old && old->fn != go_on)
            old++;
        if (old)
            old->data = at;
    }
}

/* --- 3. requests and header numbers --- */

static int number(int old, const struct text *key)
{
    if (old >= OLD_EXPIRES && old <= OLD_IF_UNMODIFIED_SINCE)
        return old - 1;
    /* An old frame may be about to fill in the key: buffer_copy_string_len sets the length
     * first. */
    if (old == HTTP_HEADER_OTHER && key->used && key->ptr && http_header_hkey_get(key->ptr, key->used - 1) == INCREMENTAL)
        return INCREMENTAL;
    return old == OLD_EXPECT_CT ? HTTP_HEADER_OTHER : old;
}

/* array_get_index_ext (array.c:225) needs this order. */
static int comes_after(const struct entry *a, const struct entry *b)
{
    if (a->ext | b->ext)
        return a->ext > b->ext;
    if (a->key.used != b->key.used)
        return a->key.used > b->key.used;
    if (!a->key.ptr || !b->key.ptr)
        return 0;
    for (unsigned int i = 0; i + 1 < a->key.used; i++) {
        int x = a->key.ptr[i] | 0x20, y = b->key.ptr[i] | 0x20;
        if (x != y)
            return x > y;
    }
    return 0;
}

/* `flags`: the numbers of headers that have a value, as bits. */
static unsigned long renumber(struct list *headers, unsigned long flags)
{
    unsigned long low = (1ul << OLD_EXPECT_CT) - 1, high = ~0ul << (OLD_IF_UNMODIFIED_SINCE + 1);
    unsigned long new_flags = (flags & (low | high)) | (flags >> 1 & ~(low | high | 1ul << INCREMENTAL));
    int out_of_order = 0;
    for (unsigned int i = 0; i < headers->used; i++) {
        struct entry *header = headers->data[i];
        int old = header->ext;
        header->ext = number(old, &header->key);
        out_of_order |= (old == HTTP_HEADER_OTHER) != (header->ext == HTTP_HEADER_OTHER);
        if (old == HTTP_HEADER_OTHER && header->ext && header->value.used > 1)
            new_flags |= 1ul << header->ext;
    }
    for (unsigned int i = 1; out_of_order && i < headers->used; i++)
        for (unsigned int k = i; k && comes_after(headers->sorted[k - 1], headers->sorted[k]); k--) {
            struct entry *swap = headers->sorted[k];
            headers->sorted[k] = headers->sorted[k - 1];
            headers->sorted[k - 1] = swap;
        }
    return new_flags;
}

static const void *old_tag;

/* A reply that is complete was made by the old version, and says so. */
static void set_tag(request *r)
{
    if (r->conf.server_tag == old_tag && !r->resp_body_finished)
        r->conf.server_tag = (void *)&default_server_tag;
}

static void set_request(struct kairos_old_request_st *old, struct kairos_new_request_st *new)
{
    new->handler_module = (void *)module_of(old->handler_module);
    new->rqst_htags = renumber((struct list *)&new->rqst_headers, new->rqst_htags);
    new->resp_htags = renumber((struct list *)&new->resp_headers, new->resp_htags);
    new->conf.h2proto = srv->srvconf.h2proto;
    set_tag(new);
}

static void set_connection(struct kairos_old_connection *old, struct kairos_new_connection *new)
{
    (void)old;
    new->plugin_slots = srv->plugin_slots;
    new->config_data_base = srv->config_data_base;
}

/* A list of the configuration, which is sorted by key. */
static void number_each(struct list *headers)
{
    for (unsigned int i = 0; i < headers->used; i++)
        headers->data[i]->ext = number(headers->data[i]->ext, &headers->data[i]->key);
}

/* Headers that the configuration names: mod_setenv.c:118, configfile-glue.c:525. */
static void renumber_settings(void)
{
    struct list *conditions = (struct list *)srv->config_context;
    for (unsigned int i = 0; i < conditions->used; i++) {
        struct condition *condition = (void *)conditions->data[i];
        if (condition->comp == COMP_HTTP_REQUEST_HEADER)
            condition->ext = number(condition->ext, &condition->comp_tag);
    }
    struct module *setenv = module("setenv");
    if (setenv)
        for (int i = 0; i < setenv->nconfig; i++) {
            struct setting *cpv = setenv->cvlist + setenv->cvlist[i].v.u2[0];
            for (; setenv->cvlist[i].v.u2[1] && cpv->k_id != -1; cpv++)
                if (cpv->k_id != 2 && cpv->k_id != 5 && cpv->v.a)
                    number_each(cpv->v.a);
        }
}

/* --- 4. start-up --- */

#define CONFIG_STAYS \
    (__builtin_offsetof(config, defaults) == __builtin_offsetof(struct kairos_old_config_data_base, defaults))

static void restore_config(struct kairos_old_config_data_base *old, struct kairos_new_config_data_base *new)
{
    if (!CONFIG_STAYS)
        memcpy(new, old, sizeof *old);
}

/* config_set_defaults, config_finalize (configfile.c:1362) */
static void set_config(void)
{
    struct kairos_old_config_data_base *old = srv->config_data_base;
    config *new = (void *)old;
    kairos_each_config_data_base(restore_config);
    if (!CONFIG_STAYS) {
        new = calloc(1, sizeof *new);
        memcpy(new, old, sizeof(struct module));
        COPY(new->defaults, old->defaults);
        srv->config_data_base = new;
        request_config_set_defaults(&new->defaults);
    }
    /* configfile.c:143: what is set by hand is marked. */
    if (global_setting((struct module *)new, 16))
        new->defaults.stream_request_body |= 1 << 2;
    if (global_setting((struct module *)new, 17))
        new->defaults.stream_response_body |= 1 << 2;
    /* configfile.c:755 and 896: no upgrade to HTTP/2 unless it is asked for. */
    if (srv->srvconf.h2proto)
        srv->srvconf.h2proto = 1 + config_feature_bool(srv, "server.h2c", 0);
    new->defaults.h2proto = srv->srvconf.h2proto;
    old_tag = srv->default_server_tag;
    if (new->defaults.server_tag == old_tag)
        new->defaults.server_tag = (void *)&default_server_tag;
    srv->default_server_tag = (void *)&default_server_tag;
    /* configfile.c:1011 and 1025: types that are new. */
    if (new->defaults.mimetypes == (void *)&srv->srvconf.mimetypes_default) {
        static const char *const types[][2] = {{".xsl", "application/xslt+xml"},
            {".xslt", "application/xslt+xml"}, {".rst", "text/x-rst"}};
        for (int i = 0; i < 3; i++)
            buffer_copy_string_len(
                array_get_buf_ptr(&srv->srvconf.mimetypes_default, types[i][0], __builtin_strlen(types[i][0])),
                types[i][1], __builtin_strlen(types[i][1]));
    }
    /* configfile.c:754 and 905 */
    struct entry *listed = srv->srvconf.feature_flags
        ? array_get_element_klen(srv->srvconf.feature_flags, "request.trailer-whitelist", 25) : 0;
    http_request_trailer_set_whitelist(listed && listed->type == TYPE_STRING ? &listed->value : 0);
}

/* server.c:2029: fewer connections where HTTP/2 may open files for each of its streams.
 * Connections that are open stay; what is free may be none. */
static void set_limits(void)
{
    int open = srv->srvconf.max_conns - srv->lim_conns;
    int conns = srv->srvconf.max_conns;
    if (config_feature_bool(srv, "server.h2proto", 1) && conns > srv->max_fds / 10)
        conns = srv->max_fds / 10;
    srv->srvconf.max_conns = conns;
    srv->lim_conns = conns > open ? conns - open : 0;
    if (conns <= 16 && malloc_top_pad == 524288)
        malloc_top_pad = 131072;
}

/* server.c:1698, h2.c:3869 */
static void set_dispatch(void)
{
    struct dispatch *h2 = &http_dispatch[HTTP_VERSION_2];
    int discard = h2->send_1xx == 0;
    if (h2->process_streams)
        *h2 = h2_dispatch_table;
    if (discard)
        h2->send_1xx = 0;
}

/* Those that are free have their settings already. */
static void set_pool(void)
{
    for (request *r = reqpool; r; r = (request *)r->con)
        set_tag(r);
}

static void found(struct kairos_old_server *old, struct kairos_new_server *new)
{
    (void)old;
    srv = new;
}

void kairos_transform(void)
{
    kairos_each_server(found);
    take_modules();
    set_auth();
    set_pathinfo();
    set_hooks();
    set_config();
    set_limits();
    set_dispatch();
    renumber_settings();
    kairos_each_request_st(set_request);
    set_pool();
    kairos_each_connection(set_connection);
}
