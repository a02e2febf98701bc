/* bifocal data show: samples of shards, or records before they are packed, as the trainer sees them. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "data/records.h"
#include "launch/commands.h"
#include "launch/open_shards.h"
#include "launch/show.h"

#define LLAVA_IMAGE (-200) /* stands for a picture in LLaVA's ids */

static const char help[] =
    "usage: bifocal data show --tokenizer PATH [OPTION]... SHARD... | RECORDS\n\n"
    "Prints a sample: its pictures, then every token with its row, id and mask (+ supervised), the text with the\n"
    "supervised parts in [brackets], and totals. A SHARD is a file (*.h5) or a folder of them. RECORDS is a file that data\n"
    "pack takes (*.json, *.jsonl; - is standard input): all its records, without looking at their pictures; what cannot be\n"
    "used is said in its place, and the exit code is then 65.\n\n"
    "  --tokenizer PATH   tokenizer.json, tokenizer.model, vocab.json with merges.txt, or their folder\n"
    "  --index N          which sample, counted from 0 through all shards (0; of RECORDS all)\n"
    "  --template NAME    " BIF_TEMPLATE_NAMES "\n"
    "                     (vicuna_v1)\n"
    "  --system TEXT      system text (the template's own; \"\" = none)\n"
    "  --image-place NAME front, keep or llava_next: where <image> of a question goes (front)\n"
    "  --image-tokens P   rows a picture takes (576)\n"
    "  --max-tokens N     refuse a longer sample (0 = any length)\n"
    "  --truncate         cut it at --max-tokens instead, as training does\n"
    "  --bos TOKEN        (<s> if the tokenizer has it; \"\" = none)\n"
    "  --eos TOKEN        (</s>, else <|endoftext|>)\n"
    "  --json             one JSON object a sample: ids, labels (-100 = no loss), pieces, ... (a picture's id is -200 where the\n"
    "                     tokenizer has no <image>)\n";

static bif_status number(const char *option, int64_t least, int64_t *out)
{
    char *end = NULL;
    errno = 0;
    long long value = strtoll(optarg, &end, 10);
    if (errno != 0 || end == optarg || *end != '\0' || value < least) {
        return bif_fail(BIF_ERR_USAGE, "data show: --%s '%s' is not a number of at least %lld", option, optarg,
                        (long long)least);
    }
    *out = value;
    return BIF_OK;
}

/* The id of a token named on the command line, or of the first default that exists. */
static bif_status token(const bif_show *s, const char *option, const char *given, const char *first, const char *second,
                        int32_t *out)
{
    *out = bif_tokenizer_special(s->tokenizer, given != NULL ? given : first);
    if (given == NULL && *out < 0 && second != NULL) {
        *out = bif_tokenizer_special(s->tokenizer, second);
    }
    if (given != NULL && *given != '\0' && *out < 0) {
        return bif_fail(BIF_ERR_USAGE, "data show: --%s '%s' is not a special token of the tokenizer", option, given);
    }
    return BIF_OK;
}

static bif_status print(const bif_show *s, bool json)
{
    return json ? bif_show_json(s) : bif_show_text(s);
}

static bif_status show_shards(bif_show *s, char **paths, int count, int64_t index, bool json)
{
    bif_status st = BIF_OK;
    bif_shard_list shards = {0};
    bif_shard *shard = NULL;
    char *where = NULL;
    for (int i = 0; i < count; i++) {
        BIF_TRY(bif_shard_list_add(&shards, paths[i]));
    }
    BIF_TRY(bif_shard_list_sample(&shards, index, &shard, &s->local, &s->sample));
    s->shard = shard;
    s->file = bif_shard_path(shard);
    s->total = bif_shard_samples(shard);
    where = bif_format("%s:%lld", s->file, (long long)s->local);
    BIF_TRY(bif_chat_encode(&s->chat, where, s->sample.text, s->sample.text_size, s->sample.image_count, &s->encoded));
    BIF_TRY(print(s, json));
done:
    free(where);
    bif_encoded_free(&s->encoded);
    bif_shard_list_close(&shards);
    return st;
}

/* BIF_ERR_DATA: the record cannot be used. */
static bif_status show_record(bif_show *s, const bif_record *record, bool json)
{
    bif_status st = BIF_OK;
    const json_t *image = json_object_get(record->value, "image"), *id = json_object_get(record->value, "id");
    char *where = bif_format("%s:%lld", s->file, (long long)record->line), *text = NULL;
    char *name = json_is_string(id)    ? bif_strdup(json_string_value(id))
                 : json_is_integer(id) ? bif_format("%lld", (long long)json_integer_value(id))
                                       : bif_strdup("");
    if (record->value == NULL) {
        st = BIF_ERR_DATA;
        goto done;
    }
    text = json_dumps(record->value, JSON_COMPACT);
    s->local = record->number - 1;
    s->sample = (bif_shard_sample){.text = text, .text_size = strlen(text), .id = name, .id_size = strlen(name), .source = "",
                                   .image_count = json_is_array(image) ? (int64_t)json_array_size(image) : json_is_string(image)};
    BIF_TRY(bif_chat_encode(&s->chat, where, text, s->sample.text_size, s->sample.image_count, &s->encoded));
    BIF_TRY(print(s, json));
done:
    if (st != BIF_OK && json) {
        json_t *row = json_pack("{s:s, s:I, s:s, s:s}", "file", s->file, "sample", (json_int_t)record->number - 1, "id", name, "error",
                                bif_error_message());
        char *line = row == NULL ? NULL : json_dumps(row, JSON_COMPACT);
        puts(line != NULL ? line : "{\"error\":\"not UTF-8\"}");
        free(line);
        json_decref(row);
    } else if (st != BIF_OK) {
        printf("%s\n", bif_error_message());
    }
    bif_encoded_free(&s->encoded);
    free(where);
    free(text);
    free(name);
    return st;
}

/* index -1: all. */
static bif_status show_records(bif_show *s, const char *path, int64_t index, bool json)
{
    bif_status st = BIF_OK;
    bif_records *records = NULL;
    bif_record record = {0};
    int64_t bad = 0, count = 0;
    bool more = false, found = index < 0;
    s->file = path;
    BIF_TRY(bif_records_open(path, BIF_RECORDS_AUTO, &records));
    for (;; count++) {
        BIF_TRY(bif_records_next(records, &record, &more));
        if (!more) {
            break;
        }
        if (index < 0 || count == index) {
            found = true;
            bad += show_record(s, &record, json) != BIF_OK;
        }
        json_decref(record.value);
        record.value = NULL;
    }
    if (!found) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "sample %lld: there are %lld, counted from 0", (long long)index, (long long)count));
    }
    if (bad > 0) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: %lld of %lld records cannot be used", path, (long long)bad,
                         (long long)(index < 0 ? count : 1)));
    }
done:
    bif_records_close(records);
    return st;
}

static bool is_records(const char *path)
{
    const char *end = strrchr(path, '.');
    return strcmp(path, "-") == 0 ||
           (end != NULL && (strcmp(end, ".json") == 0 || strcmp(end, ".jsonl") == 0 || strcmp(end, ".ndjson") == 0 ||
                             strcmp(end, ".csv") == 0));
}

bif_status bif_cmd_data_show(int argc, char **argv)
{
    static const struct option options[] = {{"tokenizer", required_argument, NULL, 't'},
                                            {"index", required_argument, NULL, 'i'},
                                            {"template", required_argument, NULL, 'k'},
                                            {"system", required_argument, NULL, 's'},
                                            {"image-place", required_argument, NULL, 'l'},
                                            {"truncate", no_argument, NULL, 'c'},
                                            {"image-tokens", required_argument, NULL, 'p'},
                                            {"max-tokens", required_argument, NULL, 'm'},
                                            {"bos", required_argument, NULL, 'b'},
                                            {"eos", required_argument, NULL, 'e'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    bif_status st = BIF_OK;
    bif_show s = {.chat = {.kind = BIF_TEMPLATE_VICUNA_V1, .image_tokens = 576}};
    int64_t index = -1;
    bool json = false;
    const char *tokenizer = NULL, *bos = NULL, *eos = NULL;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        switch (c) {
        case 't':
            tokenizer = optarg;
            break;
        case 'i':
            BIF_TRY(number("index", 0, &index));
            break;
        case 'k':
            BIF_TRY(bif_template_by_name(optarg, &s.chat.kind));
            break;
        case 's':
            s.chat.system = optarg;
            break;
        case 'l':
            BIF_TRY(bif_image_place_by_name(optarg, &s.chat.image_place));
            break;
        case 'c':
            s.chat.truncate = true;
            break;
        case 'p':
            BIF_TRY(number("image-tokens", 1, &s.chat.image_tokens));
            break;
        case 'm':
            BIF_TRY(number("max-tokens", 0, &s.chat.max_tokens));
            break;
        case 'b':
            bos = optarg;
            break;
        case 'e':
            eos = optarg;
            break;
        case 'j':
            json = true;
            break;
        case 'h':
            fputs(help, stdout);
            goto done;
        default:
            BIF_TRY(bif_fail(BIF_ERR_USAGE, "data show: wrong option; see bifocal data show --help"));
        }
    }
    if (tokenizer == NULL || optind == argc) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data show: --tokenizer and a shard or a file of records are needed; see bifocal data show "
                                        "--help"));
    }
    if (is_records(argv[optind]) && optind + 1 < argc) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "data show: '%s' is one argument too many; one file of records is taken", argv[optind + 1]));
    }
    BIF_TRY(bif_tokenizer_load(tokenizer, &s.tokenizer));
    s.chat.tokenizer = s.tokenizer;
    s.chat.image = bif_tokenizer_special(s.tokenizer, "<image>");
    s.chat.image = s.chat.image < 0 ? LLAVA_IMAGE : s.chat.image;
    BIF_TRY(token(&s, "bos", bos, "<s>", NULL, &s.chat.bos));
    BIF_TRY(token(&s, "eos", eos, "</s>", "<|endoftext|>", &s.chat.eos));
    BIF_TRY(is_records(argv[optind]) ? show_records(&s, argv[optind], index, json)
                                     : show_shards(&s, argv + optind, argc - optind, index < 0 ? 0 : index, json));
done:
    bif_tokenizer_free(s.tokenizer);
    return st;
}
