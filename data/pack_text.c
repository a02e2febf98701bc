/* The text of a sample: conversations that some template of data/chat.h can encode, or a caption. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "data/pack_parts.h"

static bool is_blank(const char *text)
{
    return text[strspn(text, " \t\r\n")] == '\0';
}

static int64_t count_placeholders(const char *text)
{
    int64_t count = 0;
    for (const char *at = text; (at = strstr(at, "<image>")) != NULL; at += 7) {
        count++;
    }
    return count;
}

/* Who speaks in a turn, and may he? answers: turns that count so far; a first answer without a question is left out by the trainer. */
static bif_status check_turn(size_t number, const char *from, const char *value, size_t *used)
{
    static const char *const roles[] = {"human", "gpt"};
    if (strcmp(from, roles[0]) != 0 && strcmp(from, roles[1]) != 0) {
        return bif_fail(BIF_ERR_DATA, "turn %zu is from '%s'; the templates have only 'human' and 'gpt'", number, from);
    }
    if (number == 1 && strcmp(from, "gpt") == 0) {
        return BIF_OK;
    }
    if (strcmp(from, roles[*used % 2]) != 0) {
        return bif_fail(BIF_ERR_DATA, "turn %zu is from '%s' as the one before; questions and answers must take turns", number, from);
    }
    if (*used % 2 == 1 && is_blank(value)) {
        return bif_fail(BIF_ERR_DATA, "turn %zu is an empty answer", number);
    }
    ++*used;
    return BIF_OK;
}

/* The turns with only the two keys we know; *out is a new list. */
static bif_status read_turns(const json_t *list, int64_t images, json_t **out)
{
    bif_status st = BIF_OK;
    json_t *turns = json_array();
    int64_t placeholders = 0, holders = 0, in_answers = 0;
    size_t i, used = 0;
    const json_t *turn;
    if (!json_is_array(list) || json_array_size(list) == 0) {
        st = bif_fail(BIF_ERR_DATA, "'conversations' must be a list of turns that is not empty");
        goto done;
    }
    json_array_foreach(list, i, turn) {
        const char *from = NULL, *value = NULL;
        char where[32];
        snprintf(where, sizeof where, "turn %zu", i + 1);
        BIF_TRY(bif_json_string(where, turn, "from", true, &from));
        BIF_TRY(bif_json_string(where, turn, "value", true, &value));
        BIF_TRY(check_turn(i + 1, from, value, &used));
        const int64_t own = count_placeholders(value);
        if (strcmp(from, "human") == 0) {
            placeholders += own;
            holders += own > 0;
        } else {
            in_answers += own;
        }
        json_array_append_new(turns, json_pack("{s:s,s:s}", "from", from, "value", value));
    }
    if (placeholders != images && holders != images) { /* one picture a turn that names it more than once: LLaVA keeps one */
        char also[96] = "";
        if (in_answers > 0) {
            snprintf(also, sizeof also, " (%lld more in answers, where it is plain text)", (long long)in_answers);
        }
        st = bif_fail(BIF_ERR_DATA, "%lld <image> placeholders%s but %lld images", (long long)placeholders, also, (long long)images);
        goto done;
    }
    if (used < 2) {
        st = bif_fail(BIF_ERR_DATA, "there is no question with an answer in the %zu turns of 'conversations'", json_array_size(list));
        goto done;
    }
    *out = turns;
    turns = NULL;
done:
    json_decref(turns);
    return st;
}

bif_status bif_pack_text(const json_t *record, int64_t images, char **text, bool *image_only)
{
    bif_status st = BIF_OK;
    json_t *value = NULL, *turns = NULL;
    const char *caption = NULL;
    const json_t *list = json_object_get(record, "conversations");
    *image_only = false;
    if (list != NULL && !json_is_null(list)) {
        BIF_TRY(read_turns(list, images, &turns));
        value = json_pack("{s:o}", "conversations", turns);
    } else {
        BIF_TRY(bif_json_string("the record", record, "caption", false, &caption));
        if (caption == NULL) {
            st = bif_fail(BIF_ERR_DATA, "there are neither 'conversations' nor a 'caption'");
            goto done;
        }
        *image_only = caption[0] == '\0' && images > 0;
        if (!*image_only && is_blank(caption)) {
            st = bif_fail(BIF_ERR_DATA, "the caption is empty");
            goto done;
        }
        value = *image_only ? json_pack("{s:[]}", "conversations") : json_pack("{s:s}", "caption", caption);
    }
    *text = json_dumps(value, JSON_COMPACT);
done:
    json_decref(value);
    return st;
}

bif_status bif_pack_id(const json_t *record, char **id)
{
    const json_t *value = json_object_get(record, "id");
    if (value == NULL || json_is_null(value)) {
        *id = bif_strdup("");
    } else if (json_is_string(value)) {
        *id = bif_strdup(json_string_value(value));
    } else if (json_is_integer(value)) {
        *id = bif_format("%lld", (long long)json_integer_value(value));
    } else {
        return bif_fail(BIF_ERR_DATA, "'id' must be a string or an integer");
    }
    return BIF_OK;
}

bif_status bif_pack_caption(const char *name, char *text, size_t size)
{
    const size_t mark = size >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
    if (memchr(text, '\0', size) != NULL || bif_utf8_check(text, size) != size) {
        return bif_fail(BIF_ERR_DATA, "'%s' is not a text in UTF-8", name);
    }
    while (size > mark && (text[size - 1] == '\n' || text[size - 1] == '\r')) {
        size--;
    }
    memmove(text, text + mark, size - mark);
    text[size - mark] = '\0';
    if (is_blank(text)) {
        text[0] = '\0';
    }
    return BIF_OK;
}

json_t *bif_pack_string(const char *text)
{
    json_t *value = json_string(text);
    if (value == NULL) { /* not UTF-8: a file name, perhaps */
        char *copy = bif_strdup(text);
        for (char *c = copy; *c != '\0'; c++) {
            *c = (unsigned char)*c < 0x80 ? *c : '?';
        }
        value = json_string(copy);
        free(copy);
    }
    return value;
}
