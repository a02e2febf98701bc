/* A sample that data show prints. */
#pragma once
#include "data/chat.h"
#include "data/shard.h"

typedef struct {
    bif_tokenizer *tokenizer;
    bif_chat chat;
    const char *file;      /* the shard or the file of records, borrowed */
    const bif_shard *shard; /* NULL: a record, whose pictures are not looked at */
    int64_t local, total;  /* index within the file, from 0; samples of a shard */
    bif_shard_sample sample;
    bif_encoded encoded;
} bif_show;

bif_status bif_show_text(const bif_show *show);
bif_status bif_show_json(const bif_show *show); /* one line */
