/* Small helpers over jansson so that every reader of JSON complains in the same words.
 * Duplicate keys and invalid UTF-8 are errors. `where` is what the message names (a file, or file:line). */
#pragma once
#include <jansson.h>

#include "base/status.h"

bif_status bif_json_load_file(const char *path, size_t cap, json_t **out); /* file:line:column in the message */
/* The same, but an integer beyond 64 bits becomes a real: for tokenizer_config.json, where transformers writes a model_max_length of
 * 1e30 in 31 digits. */
bif_status bif_json_load_reals(const char *path, size_t cap, json_t **out);
bif_status bif_json_parse(const char *where, const char *text, size_t size, json_t **out); /* the byte in the message */
/* The same of text that begins at byte `offset` of its file. */
bif_status bif_json_parse_at(const char *where, size_t offset, const char *text, size_t size, json_t **out);
/* A text that may be a path or come from a file: bytes that are no UTF-8, and which jansson would not take, spelled as \xNN. NULL: null. */
json_t *bif_json_text(const char *text);
bif_status bif_json_save_file(const char *path, const json_t *value); /* indented, keys in insertion order, atomic */

/* Typed members. `required` false: *out keeps its value when the key is missing or null. */
bif_status bif_json_i64(const char *where, const json_t *object, const char *key, bool required, int64_t *out);
bif_status bif_json_f64(const char *where, const json_t *object, const char *key, bool required, double *out); /* int or real */
bif_status bif_json_bool(const char *where, const json_t *object, const char *key, bool required, bool *out);
bif_status bif_json_string(const char *where, const json_t *object, const char *key, bool required, const char **out); /* borrowed */
