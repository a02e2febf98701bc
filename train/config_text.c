#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "train/config_table.h"

static void append(char **text, size_t *size, const char *piece)
{
    const size_t n = strlen(piece);
    *text = bif_realloc(*text, *size + n + 1, 1);
    memcpy(*text + *size, piece, n + 1);
    *size += n;
}

/* Shortest decimal that reads back as the same double. */
static char *f64_text(double value)
{
    char text[40];
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) {
            break;
        }
    }
    return bif_strdup(text);
}

/* A double-quoted YAML scalar; "${" is written as "$${" so that it is not looked up again. */
static char *quoted(const char *text)
{
    char *out = bif_strdup("\"");
    size_t size = 1;
    for (; *text != '\0'; text++) {
        char piece[8] = {*text, '\0'};
        if (*text == '"' || *text == '\\') {
            snprintf(piece, sizeof piece, "\\%c", *text);
        } else if ((unsigned char)*text < 0x20 || *text == 0x7f) {
            snprintf(piece, sizeof piece, "\\x%02x", (unsigned)(unsigned char)*text);
        } else if (text[0] == '$' && text[1] == '{') {
            snprintf(piece, sizeof piece, "$$");
        }
        append(&out, &size, piece);
    }
    append(&out, &size, "\"");
    return out;
}

static char *list_text(const bif_strings *list)
{
    char *out = bif_strdup("[");
    size_t size = 1;
    for (size_t i = 0; i < list->count; i++) {
        char *item = quoted(list->items[i]);
        append(&out, &size, i == 0 ? "" : ", ");
        append(&out, &size, item);
        free(item);
    }
    append(&out, &size, "]");
    return out;
}

static char *choice_text(const char *choices, int index)
{
    for (; index > 0; index--) {
        choices = strchr(choices, '|') + 1;
    }
    return strndup(choices, strcspn(choices, "|"));
}

static char *value_text(const bif_config *config, const bif_key *key)
{
    const void *member = (const char *)config + key->offset;
    int index = 0;
    switch (key->type) {
    case BIF_KEY_I64:
        return bif_format("%lld", (long long)*(const int64_t *)member);
    case BIF_KEY_F64:
        return f64_text(*(const double *)member);
    case BIF_KEY_BOOL:
        return bif_strdup(*(const bool *)member ? "yes" : "no");
    case BIF_KEY_ENUM:
        memcpy(&index, member, sizeof index);
        return choice_text(key->choices, index);
    case BIF_KEY_STRING:
        return *(char *const *)member == NULL ? bif_strdup("null") : quoted(*(char *const *)member);
    case BIF_KEY_STRINGS:
        return list_text(member);
    }
    return NULL;
}

/* Writes the lines of a section and, at its place in the table, those of the sections below it. */
char *bif_config_text(const bif_config *config)
{
    char *out = bif_strdup(""), open[64] = "";
    size_t size = 0;
    for (size_t i = 0; i < bif_key_count; i++) {
        const char *key = bif_keys[i].key, *dot = strrchr(key, '.');
        const size_t n = dot == NULL ? 0 : (size_t)(dot - key);
        int depth = 0;
        for (size_t k = 0; k <= n; k++) {
            if (k < n && key[k] != '.') {
                continue;
            }
            if (n > 0 && (strncmp(open, key, k) != 0 || (open[k] != '\0' && open[k] != '.'))) { /* key[0..k) is a section not open yet */
                const char *name = key + k;
                while (name > key && name[-1] != '.') {
                    name--;
                }
                char *line = bif_format("%*s%.*s:\n", 2 * depth, "", (int)(key + k - name), name);
                append(&out, &size, line);
                free(line);
            }
            depth++;
        }
        char *value = value_text(config, &bif_keys[i]);
        char *line = bif_format("%*s%s: %s\n", n == 0 ? 0 : 2 * depth, "", dot == NULL ? key : dot + 1, value);
        append(&out, &size, line);
        free(line);
        free(value);
        snprintf(open, sizeof open, "%.*s", (int)n, key);
    }
    return out;
}

static const char *type_text(const bif_key *key, char *buffer, size_t size)
{
    char low[32], high[32];
    switch (key->type) {
    case BIF_KEY_I64:
    case BIF_KEY_F64:
        snprintf(low, sizeof low, key->type == BIF_KEY_I64 ? "%.0f" : "%g", key->low);
        snprintf(high, sizeof high, key->type == BIF_KEY_I64 ? "%.0f" : "%g", key->high);
        snprintf(buffer, size, "%s from %s to %s", key->type == BIF_KEY_I64 ? "whole number" : "number", low, high);
        return buffer;
    case BIF_KEY_BOOL:
        return "yes or no";
    case BIF_KEY_STRINGS:
        return "list of texts";
    default:
        return key->choices == NULL ? "text" : key->choices;
    }
}

char *bif_config_reference(void)
{
    char *out = bif_strdup("Keys of a recipe (YAML). A dot is a level: \"optimizer.lr\" is the key lr of the mapping optimizer.\n"
                           "In texts ${NAME} is taken from the environment and $${ stands for ${ itself.\n\n");
    size_t size = strlen(out);
    for (size_t i = 0; i < bif_key_count; i++) {
        const bif_key *key = &bif_keys[i];
        char type[160];
        const char *initial = key->initial;
        char *line = bif_format("%s\n    %s; %s%s%s\n    %s\n", key->key, type_text(key, type, sizeof type),
                                key->required      ? "required"
                                : initial == NULL  ? "default none"
                                : *initial == '\0' ? "default below"
                                                   : "default ",
                                key->required || initial == NULL ? "" : initial, key->numbers ? "; fixed for the life of a run" : "", key->help);
        append(&out, &size, line);
        free(line);
    }
    return out;
}

/* The mean of micro-batch means depends on how samples are grouped; the mean over tokens does not. Dealt in order, a group is one however many
 * packed batches it takes. The order by modality and length balances micro-batches. */
static bool in_digest(const bif_config *config, const bif_key *key)
{
    const bool means = config->train.loss == BIF_LOSS_MICRO_MEAN, ordered = config->batch.deal == BIF_DEAL_ORDER;
    const bool grouped = config->data.sampler == BIF_SAMPLER_MODALITY_LENGTH && config->data.order == NULL;
    if (strcmp(key->key, "batch.micro_samples") == 0) {
        return means || grouped;
    }
    if (strcmp(key->key, "batch.micro_tokens") == 0) {
        return means && !ordered;
    }
    if (strcmp(key->key, "data.caption_mix") == 0) { /* runs from before there was such a key go on */
        return config->data.caption_mix < 1.0;
    }
    return key->numbers || (means && strcmp(key->key, "batch.deal") == 0);
}

char *bif_config_difference(const bif_config *before, const bif_config *config)
{
    enum { MOST = 4 };
    char *out = bif_strdup("");
    size_t size = 0;
    int found = 0;
    for (size_t i = 0; i < bif_key_count; i++) {
        char *was = value_text(before, &bif_keys[i]), *is = value_text(config, &bif_keys[i]);
        if ((in_digest(before, &bif_keys[i]) || in_digest(config, &bif_keys[i])) && strcmp(was, is) != 0 && ++found <= MOST) {
            char *text = bif_format("%s%s was %s and is %s", found > 1 ? ", " : "", bif_keys[i].key, was, is);
            append(&out, &size, text);
            free(text);
        }
        free(was);
        free(is);
    }
    if (found > MOST) {
        char *text = bif_format(" and %d more", found - MOST);
        append(&out, &size, text);
        free(text);
    }
    return out;
}

void bif_config_digest(const bif_config *config, char hex[33])
{
    bif_digest *digest = bif_digest_new();
    for (size_t i = 0; i < bif_key_count; i++) {
        if (in_digest(config, &bif_keys[i])) {
            char *value = value_text(config, &bif_keys[i]);
            char *line = bif_format("%s: %s\n", bif_keys[i].key, value);
            bif_digest_update(digest, line, strlen(line));
            free(line);
            free(value);
        }
    }
    bif_digest_finish(digest, hex);
}
