#include <string.h>

#include "data/chat.h"

const json_t *bif_caption_of(const json_t *record)
{
    const json_t *value = json_object_get(record, "caption"), *turns = json_object_get(record, "conversations");
    for (size_t i = 0; i < json_array_size(turns) && value == NULL; i++) {
        const json_t *turn = json_array_get(turns, i), *from = json_object_get(turn, "from");
        if (json_is_string(from) && strcmp(json_string_value(from), "gpt") == 0) {
            value = json_object_get(turn, "value");
        }
    }
    return value;
}

bif_status bif_chat_caption(const bif_chat *chat, const char *where, const char *text, size_t size, bool cut, bif_ids *ids)
{
    const size_t first = ids->count, most = first + (size_t)chat->max_tokens, wanted = first + (size_t)chat->pad_to;
    if (chat->bos >= 0) {
        bif_ids_push(ids, chat->bos);
    }
    const bif_status st = bif_tokenizer_encode(chat->tokenizer, text, size, false, ids);
    if (st != BIF_OK) {
        return bif_fail_context(st, "%s", where);
    }
    bif_ids_push(ids, chat->eos);
    if (ids->count > most) {
        if (!cut) {
            return bif_fail(BIF_ERR_DATA, "%s: sample has %zu tokens, limit %zu", where, ids->count - first, most - first);
        }
        ids->count = most;
        ids->ids[most - 1] = chat->eos;
    }
    const size_t length = ids->count - first;
    while (ids->count < wanted) {
        bif_ids_push(ids, chat->pad);
    }
    if (chat->pad_left && ids->count > first + length) {
        const size_t pads = ids->count - first - length;
        memmove(ids->ids + first + pads, ids->ids + first, length * sizeof *ids->ids);
        for (size_t i = 0; i < pads; i++) {
            ids->ids[first + i] = chat->pad;
        }
    }
    return BIF_OK;
}
