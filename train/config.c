#include "train/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/file.h"
#include "base/utf8.h"
#include "train/config_table.h"

#define FILE_CAP ((size_t)256 << 10)
#define DEPTH_CAP 32  /* libyaml 0.2.5 is quadratic in nesting (200 KB of brackets: 56 s) and has no limit of its own */
#define ERRORS_CAP 16 /* shown; the message of a status holds 4 KiB */

typedef struct {
    yaml_parser_t yaml;
    const char *where; /* file, or "--set a.b=c" */
    bool is_set;       /* one value of the command line: no positions in messages */
    bif_config *config;
    bool *given;       /* in any source so far */
    bool here[BIF_KEY_CAP]; /* in this source: twice is an error */
    bool opened[16];        /* sections seen in this source */
    bif_errors *errors;
    int depth;
    bool broken; /* the text is not YAML: stop */
} reader;

static void complain(reader *r, const yaml_mark_t *mark, char *text)
{
    bif_errors_add(r->errors, r->is_set ? bif_format("%s: %s", r->where, text)
                                        : bif_format("%s:%zu:%zu: %s", r->where, mark->line + 1, mark->column + 1, text));
    free(text);
}

static bool anchored(const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return true;
    case YAML_SCALAR_EVENT:
        return event->data.scalar.anchor != NULL || event->data.scalar.tag != NULL;
    case YAML_SEQUENCE_START_EVENT:
        return event->data.sequence_start.anchor != NULL || event->data.sequence_start.tag != NULL;
    case YAML_MAPPING_START_EVENT:
        return event->data.mapping_start.anchor != NULL || event->data.mapping_start.tag != NULL;
    default:
        return false;
    }
}

/* The next event; false when there is none that can be used (then r->broken is set). The caller deletes it. */
static bool next(reader *r, yaml_event_t *event)
{
    if (r->broken) {
        return false;
    }
    if (!yaml_parser_parse(&r->yaml, event)) {
        const char *problem = r->yaml.problem == NULL ? "not valid YAML" : r->yaml.problem;
        complain(r, &r->yaml.problem_mark, bif_format("not valid YAML: %s", problem));
        r->broken = true;
        return false;
    }
    const bool opens = event->type == YAML_MAPPING_START_EVENT || event->type == YAML_SEQUENCE_START_EVENT;
    const bool closes = event->type == YAML_MAPPING_END_EVENT || event->type == YAML_SEQUENCE_END_EVENT;
    r->depth += opens ? 1 : closes ? -1 : 0;
    if (anchored(event) || r->depth > DEPTH_CAP) {
        complain(r, &event->start_mark,
                 bif_strdup(r->depth > DEPTH_CAP ? "nested deeper than 32 levels" : "anchors, aliases and tags are not allowed"));
        yaml_event_delete(event);
        r->broken = true;
        return false;
    }
    return true;
}

/* Passes over the value that `event` begins. */
static void skip(reader *r, const yaml_event_t *event)
{
    if (event->type != YAML_MAPPING_START_EVENT && event->type != YAML_SEQUENCE_START_EVENT) {
        return;
    }
    const int outside = r->depth - 1;
    yaml_event_t inner;
    while (r->depth > outside && next(r, &inner)) {
        yaml_event_delete(&inner);
    }
}

static bool is_null(const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;
    return event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (text[0] == '\0' || strcmp(text, "~") == 0 || strcmp(text, "null") == 0);
}

static void set_scalar(reader *r, const bif_key *key, const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;
    char *error = strlen(text) != event->data.scalar.length ? bif_strdup("holds a zero byte") : bif_key_set(r->config, key, text);
    if (error != NULL) {
        complain(r, &event->start_mark, bif_format("%s %s", key->key, error));
        free(error);
    }
}

/* A value for a key of the table. */
static void read_value(reader *r, int index, const yaml_event_t *event)
{
    const bif_key *key = &bif_keys[index];
    if (event->type == YAML_SCALAR_EVENT && is_null(event)) { /* "nothing": the default, also where a file said something else */
        bif_key_clear(r->config, key);
        if (key->initial != NULL && key->initial[0] != '\0') {
            free(bif_key_set(r->config, key, key->initial));
        }
        r->given[index] = false;
        return;
    }
    r->given[index] = true;
    if (key->type == BIF_KEY_STRINGS) {
        bif_key_clear(r->config, key); /* a later source replaces the list */
    }
    if (event->type == YAML_SCALAR_EVENT) {
        set_scalar(r, key, event);
        return;
    }
    if (event->type != YAML_SEQUENCE_START_EVENT || key->type != BIF_KEY_STRINGS) {
        complain(r, &event->start_mark, bif_format("%s must be %s, not a %s", key->key, key->type == BIF_KEY_STRINGS ? "a list" : "one value",
                                                   event->type == YAML_SEQUENCE_START_EVENT ? "list" : "mapping"));
        skip(r, event);
        return;
    }
    yaml_event_t item;
    for (bool more = true; more && next(r, &item);) {
        more = item.type != YAML_SEQUENCE_END_EVENT;
        if (item.type == YAML_SCALAR_EVENT) {
            set_scalar(r, key, &item);
        } else if (more) {
            complain(r, &item.start_mark, bif_format("%s must be a list of texts", key->key));
            skip(r, &item);
        }
        yaml_event_delete(&item);
    }
}

static int section_find(const char *path)
{
    for (int i = 0; bif_key_sections[i] != NULL; i++) {
        if (strcmp(bif_key_sections[i], path) == 0) {
            return i;
        }
    }
    return -1;
}

static void unknown(reader *r, const yaml_mark_t *mark, const char *section, const char *name, const char *path)
{
    const char *nearest = bif_key_nearest(section, name);
    complain(r, mark, nearest == NULL ? bif_format("unknown key %.120s", path)
                                      : bif_format("unknown key %.120s; did you mean %s?", path, nearest));
}

static void read_mapping(reader *r, const char *section);

/* The value behind a key, whatever it is. */
static void read_entry(reader *r, const char *section, const char *name, const yaml_mark_t *mark)
{
    yaml_event_t event;
    if (!next(r, &event)) {
        return;
    }
    char *path = bif_format("%s%s%s", section, section[0] == '\0' ? "" : ".", name);
    const int key = bif_key_find(path), sub = section_find(path);
    bool *seen = key >= 0 ? &r->here[key] : sub >= 0 ? &r->opened[sub] : NULL;
    if (seen == NULL) {
        unknown(r, mark, section, name, path);
        skip(r, &event);
    } else if (*seen) {
        complain(r, mark, bif_format("the key %s is given twice", path));
        skip(r, &event);
    } else if (key >= 0) {
        *seen = true;
        read_value(r, key, &event);
    } else if (event.type == YAML_MAPPING_START_EVENT) {
        *seen = true;
        read_mapping(r, path);
    } else if (event.type != YAML_SCALAR_EVENT || !is_null(&event)) {
        complain(r, &event.start_mark, bif_format("%s must be a mapping of keys", path));
        skip(r, &event);
    }
    yaml_event_delete(&event);
    free(path);
}

/* Behind a mapping's start, up to its end. */
static void read_mapping(reader *r, const char *section)
{
    yaml_event_t event;
    for (bool more = true; more && next(r, &event);) {
        more = event.type != YAML_MAPPING_END_EVENT;
        if (event.type == YAML_SCALAR_EVENT) {
            read_entry(r, section, (const char *)event.data.scalar.value, &event.start_mark);
        } else if (more) {
            complain(r, &event.start_mark, bif_strdup("a key must be one word"));
            skip(r, &event);
            yaml_event_t value;
            if (next(r, &value)) {
                skip(r, &value);
                yaml_event_delete(&value);
            }
        }
        yaml_event_delete(&event);
    }
}

static void start(reader *r, const char *text, size_t size)
{
    yaml_parser_initialize(&r->yaml);
    yaml_parser_set_encoding(&r->yaml, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r->yaml, (const unsigned char *)text, size);
}

/* Reads stream and document starts; then hands the first event of the document to the caller. False when there is none. */
static bool first_event(reader *r, yaml_event_t *event)
{
    while (next(r, event)) {
        if (event->type != YAML_STREAM_START_EVENT && event->type != YAML_DOCUMENT_START_EVENT) {
            return event->type != YAML_STREAM_END_EVENT;
        }
        yaml_event_delete(event);
    }
    return false;
}

static void expect_end(reader *r)
{
    yaml_event_t event;
    bool more = true;
    while (more && next(r, &event)) {
        more = event.type != YAML_STREAM_END_EVENT;
        if (event.type == YAML_DOCUMENT_START_EVENT) {
            complain(r, &event.start_mark, bif_strdup("a second document begins here; one is wanted"));
            more = false;
        }
        yaml_event_delete(&event);
    }
}

static void read_file_text(reader *r, const char *text, size_t size)
{
    yaml_event_t event;
    start(r, text, size);
    if (first_event(r, &event)) {
        if (event.type == YAML_MAPPING_START_EVENT) {
            read_mapping(r, "");
        } else {
            complain(r, &event.start_mark, bif_strdup("a mapping of keys is wanted"));
            skip(r, &event);
        }
        yaml_event_delete(&event);
        expect_end(r);
    }
    yaml_parser_delete(&r->yaml);
}

/* "a.b=value": the value is read as YAML, so lists are written [x, y]. */
static void read_set(reader *r, const char *text)
{
    const char *equals = strchr(text, '=');
    const yaml_mark_t none = {0};
    if (equals == NULL || equals == text) {
        complain(r, &none, bif_strdup("KEY=VALUE is wanted"));
        return;
    }
    char *key = strndup(text, (size_t)(equals - text));
    const int index = bif_key_find(key);
    yaml_event_t event;
    if (index < 0) {
        char *dot = strrchr(key, '.');
        char *section = dot == NULL ? bif_strdup("") : strndup(key, (size_t)(dot - key));
        unknown(r, &none, section, dot == NULL ? key : dot + 1, key);
        free(section);
    } else {
        start(r, equals + 1, strlen(equals + 1));
        if (first_event(r, &event)) {
            read_value(r, index, &event);
            yaml_event_delete(&event);
            expect_end(r);
        } else if (!r->broken) { /* nothing behind '=': the default */
            bif_key_clear(r->config, &bif_keys[index]);
            r->given[index] = false;
        }
        yaml_parser_delete(&r->yaml);
    }
    free(key);
}

static bif_status report(const bif_errors *errors)
{
    char *all = bif_strdup("");
    for (size_t i = 0; i < errors->count && i < ERRORS_CAP; i++) {
        char *longer = bif_format("%s%s%.200s", all, i == 0 ? "" : "\n", errors->items[i]);
        free(all);
        all = longer;
    }
    const size_t more = errors->count > ERRORS_CAP ? errors->count - ERRORS_CAP : 0;
    bif_status st = more == 0 ? bif_fail(BIF_ERR_CONFIG, "%s", all) : bif_fail(BIF_ERR_CONFIG, "%s\nand %zu more", all, more);
    free(all);
    return st;
}

bif_status bif_config_load(const char *path, const char *const *sets, size_t set_count, bif_config *out)
{
    bif_status st = BIF_OK;
    char *text = NULL;
    size_t size = 0;
    bif_errors errors = {0};
    bool given[BIF_KEY_CAP] = {false};
    bif_config config = {0};
    for (size_t i = 0; i < bif_key_count; i++) {
        if (bif_keys[i].initial != NULL && bif_keys[i].initial[0] != '\0') {
            char *error = bif_key_set(&config, &bif_keys[i], bif_keys[i].initial);
            BIF_BUG_IF(error != NULL, "default of %s %s", bif_keys[i].key, error);
        }
    }
    BIF_TRY(bif_file_read(path, FILE_CAP, &text, &size));
    reader r = {.where = path, .config = &config, .given = given, .errors = &errors};
    const size_t valid = bif_utf8_check(text, size);
    if (valid != size) {
        bif_errors_add(&errors, bif_format("%s: byte %zu is not UTF-8", path, valid));
    } else {
        read_file_text(&r, text, size);
    }
    for (size_t i = 0; i < set_count; i++) {
        char *where = bif_format("--set %.120s", sets[i]);
        reader s = {.where = where, .is_set = true, .config = &config, .given = given, .errors = &errors};
        read_set(&s, sets[i]);
        free(where);
    }
    bif_config_finish(&config, given, path, &errors);
    if (errors.count > 0) {
        st = report(&errors);
        goto done;
    }
    *out = config;
    config = (bif_config){0};
done:
    for (size_t i = 0; i < errors.count; i++) {
        free(errors.items[i]);
    }
    free(errors.items);
    free(text);
    bif_config_free(&config);
    return st;
}
