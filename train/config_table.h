/* The one table of all keys of a recipe, shared by the parser (config.c) and by what is written about it (config_table.c). */
#pragma once
#include "train/config.h"

typedef enum { BIF_KEY_I64, BIF_KEY_F64, BIF_KEY_BOOL, BIF_KEY_STRING, BIF_KEY_ENUM, BIF_KEY_STRINGS } bif_key_type;

typedef struct {
    const char *key; /* "optimizer.lr" */
    bif_key_type type;
    size_t offset;       /* of the member in bif_config */
    double low, high;    /* I64 and F64: inclusive */
    const char *choices; /* "a|b|c": of an ENUM in the order of its values, or of a STRING; NULL = any text */
    const char *initial; /* default as text; NULL = none (no text, an empty list); "" = see `help`, set by bif_config_finish */
    bool required;
    bool numbers; /* takes part in bif_config_digest */
    const char *help;
} bif_key;

#define BIF_KEY_CAP 160
extern const bif_key bif_keys[];
extern const size_t bif_key_count;
extern const char *const bif_key_sections[]; /* "model", "model.vit", ...; NULL at the end */

/* Index of a key, or -1. */
int bif_key_find(const char *key);
/* Sets a member from one scalar (a list: appends). Returns NULL, or what is wrong with the text (malloc'ed, without the key). */
char *bif_key_set(bif_config *config, const bif_key *key, const char *text);
/* Frees a string or list member and makes it empty. */
void bif_key_clear(bif_config *config, const bif_key *key);
/* Nearest known key (full path) to one that is not known, or NULL. `section` is where it stood ("" = top). */
const char *bif_key_nearest(const char *section, const char *name);

/* Errors of a whole recipe. */
typedef struct {
    char **items;
    size_t count;
} bif_errors;
void bif_errors_add(bif_errors *errors, char *text); /* takes text */

/* Defaults that depend on other keys, then everything that must hold between keys. given[i]: key i was in the file or in a --set. */
void bif_config_finish(bif_config *config, const bool *given, const char *where, bif_errors *errors);
