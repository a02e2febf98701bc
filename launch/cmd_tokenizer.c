/* bifocal data tokenizer: trains a byte-level BPE tokenizer on the texts of shards and on text files. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "data/chat_templates.h"
#include "data/tokenizer.h"
#include "launch/commands.h"
#include "launch/open_shards.h"

static const char help[] =
    "usage: bifocal data tokenizer --vocab-size N --out PATH [--template NAME] [--special TOKEN]... INPUT...\n\n"
    "Trains a byte-level BPE tokenizer (GPT-2's pattern) and writes it as tokenizer.json, which transformers opens.\n"
    "An INPUT is a shard (*.h5), a folder of shards, or a text file of at most 1 GiB. All texts are held in memory.\n\n"
    "  --vocab-size N    ids in all: 256 bytes, the special tokens, the rest learned; fewer if pairs run out\n"
    "  --out PATH        the file to write (*.json), or a folder for tokenizer.json\n"
    "  --special TOKEN   a special token (repeatable); given ones replace the default list\n"
    "                    <s> </s> <image> <|im_start|> <|im_end|>. They get the last ids in this order.\n"
    "  --template NAME   the template that will frame the turns (vicuna_v1): its words are learned with them\n\n"
    "Of a sample all values and captions count, without <image>, framed as the template writes them.\n";

static const char *const default_specials[] = {"<s>", "</s>", "<image>", "<|im_start|>", "<|im_end|>"};

typedef struct {
    char **text;
    size_t *size;
    size_t count, capacity, bytes;
} texts;

/* Takes over `text`. */
static void add_owned(texts *t, char *text, size_t size)
{
    if (t->count == t->capacity) {
        t->capacity = t->capacity ? t->capacity * 2 : 1024;
        t->text = bif_realloc(t->text, t->capacity, sizeof(char *));
        t->size = bif_realloc(t->size, t->capacity, sizeof *t->size);
    }
    t->text[t->count] = text;
    t->size[t->count++] = size;
    t->bytes += size;
}

/* The text of a template's frame: without BOS, EOS and special tokens. malloc'ed. */
static char *frame_text(const char *open, const char *close)
{
    char *text = bif_format("%s%s", open, close), *out = text;
    for (const char *at = text; *at != '\0';) {
        const char *end = strncmp(at, "<|", 2) == 0 ? strstr(at, "|>") : NULL;
        if (end != NULL) {
            at = end + 2;
        } else if (*at == *BIF_FRAME_BOS || *at == *BIF_FRAME_EOS) {
            at++;
        } else {
            *out++ = *at++;
        }
    }
    *out = '\0';
    return text;
}

/* A value in its frame, without its placeholders: each part is a text. */
static void add_value(texts *t, const char *before, const char *value, const char *after)
{
    static const char placeholder[] = "<image>";
    char *framed = bif_format("%s%s%s", before, value, after);
    for (const char *p = framed; p != NULL;) {
        const char *next = strstr(p, placeholder);
        size_t size = next == NULL ? strlen(p) : (size_t)(next - p);
        if (size > 0) {
            add_owned(t, bif_format("%.*s", (int)size, p), size);
        }
        p = next == NULL ? NULL : next + sizeof placeholder - 1;
    }
    free(framed);
}

static bif_status add_sample(texts *t, bif_template_kind template, const char *where, const bif_shard_sample *sample)
{
    json_t *value = NULL;
    if (sample->text_size > (size_t)1 << 30) {
        return bif_fail(BIF_ERR_DATA, "%s: a text of %zu bytes", where, sample->text_size);
    }
    bif_status st = bif_json_parse(where, sample->text, sample->text_size, &value);
    if (st != BIF_OK) {
        return st;
    }
    const char *caption = json_string_value(json_object_get(value, "caption"));
    if (caption != NULL) {
        add_value(t, "", caption, "");
    }
    const json_t *turns = json_object_get(value, "conversations");
    const bif_template *b = &bif_templates[template];
    char *before = frame_text(b->user_open, ""), *after = frame_text(b->user_close, b->answer_open);
    for (size_t i = 0; i < json_array_size(turns); i++) {
        const char *from = json_string_value(json_object_get(json_array_get(turns, i), "from"));
        const char *text = json_string_value(json_object_get(json_array_get(turns, i), "value"));
        if (text != NULL) {
            const bool answer = from != NULL && strcmp(from, "gpt") == 0;
            add_value(t, answer ? b->answer_lead : before, text, answer ? "" : after);
        }
    }
    free(before);
    free(after);
    json_decref(value);
    return BIF_OK;
}

static bif_status add_shards(texts *t, bif_template_kind template, const char *path)
{
    bif_status st = BIF_OK;
    bif_shard_list list = {0};
    int64_t skipped = 0;
    BIF_TRY(bif_shard_list_add(&list, path));
    for (size_t s = 0; s < list.count; s++) {
        for (int64_t i = 0; i < bif_shard_samples(list.shard[s]); i++) {
            bif_shard_sample sample;
            BIF_TRY(bif_shard_get_sample(list.shard[s], i, &sample));
            char *where = bif_format("%s:%lld", bif_shard_path(list.shard[s]), (long long)i);
            if (add_sample(t, template, where, &sample) != BIF_OK && skipped++ == 0) {
                bif_warn("%s", bif_error_message());
            }
            free(where);
        }
    }
    if (skipped > 0) {
        bif_warn("%s: %lld samples without readable text were left out", path, (long long)skipped);
    }
done:
    bif_shard_list_close(&list);
    return st;
}

static bif_status add_input(texts *t, bif_template_kind template, const char *path)
{
    struct stat info;
    size_t length = strlen(path);
    bool folder = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
    if (folder || (length > 3 && strcmp(path + length - 3, ".h5") == 0)) {
        return add_shards(t, template, path);
    }
    char *text = NULL;
    size_t size = 0;
    bif_status st = bif_file_read(path, (size_t)1 << 30, &text, &size);
    if (st == BIF_OK) {
        add_owned(t, text, size);
    }
    return st;
}

static bif_status save(const bif_tokenizer *tokenizer, const char *out, char **written)
{
    bif_status st = BIF_OK;
    size_t length = strlen(out);
    bool file = length > 5 && strcmp(out + length - 5, ".json") == 0;
    char *path = file ? bif_strdup(out) : bif_path_join(out, "tokenizer.json");
    char *parent = bif_path_parent(path);
    BIF_TRY(bif_make_dirs(parent));
    BIF_TRY(bif_tokenizer_save(tokenizer, path));
    *written = path;
    path = NULL;
done:
    free(parent);
    free(path);
    return st;
}

bif_status bif_cmd_data_tokenizer(int argc, char **argv)
{
    static const struct option options[] = {{"vocab-size", required_argument, NULL, 'v'},
                                            {"special", required_argument, NULL, 's'},
                                            {"out", required_argument, NULL, 'o'},
                                            {"template", required_argument, NULL, 't'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    bif_status st = BIF_OK;
    texts all = {0};
    bif_tokenizer *tokenizer = NULL;
    const char **special = bif_calloc((size_t)argc, sizeof *special);
    size_t specials = 0;
    const char *out = NULL;
    bif_template_kind template = BIF_TEMPLATE_VICUNA_V1;
    char *written = NULL, *end = NULL;
    long long vocab = 0;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        switch (c) {
        case 'v':
            errno = 0;
            vocab = strtoll(optarg, &end, 10);
            if (errno != 0 || end == optarg || *end != '\0' || vocab < 256) {
                BIF_TRY(bif_fail(BIF_ERR_USAGE, "data tokenizer: --vocab-size '%s' is not a number of at least 256",
                                 optarg));
            }
            break;
        case 's':
            special[specials++] = optarg;
            break;
        case 't':
            BIF_TRY(bif_template_by_name(optarg, &template));
            break;
        case 'o':
            out = optarg;
            break;
        case 'h':
            fputs(help, stdout);
            goto done;
        default:
            BIF_TRY(bif_fail(BIF_ERR_USAGE, "data tokenizer: wrong option; see bifocal data tokenizer --help"));
        }
    }
    if (vocab == 0 || out == NULL || optind == argc) {
        BIF_TRY(
            bif_fail(BIF_ERR_USAGE,
                     "data tokenizer: --vocab-size, --out and an input are needed; see bifocal data tokenizer --help"));
    }
    for (int i = optind; i < argc; i++) {
        BIF_TRY(add_input(&all, template, argv[i]));
    }
    if (all.bytes == 0) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "data tokenizer: the inputs hold no text"));
    }
    size_t count = specials > 0 ? specials : sizeof default_specials / sizeof *default_specials;
    BIF_TRY(bif_tokenizer_train((const char *const *)all.text, all.size, all.count, vocab,
                                specials > 0 ? special : default_specials, count, &tokenizer));
    BIF_TRY(save(tokenizer, out, &written));
    printf("%s: %lld ids (256 bytes, %lld learned, %zu special) from %zu texts of %zu bytes\n", written,
           (long long)bif_tokenizer_vocab(tokenizer),
           (long long)bif_tokenizer_vocab(tokenizer) - 256 - (long long)count, count, all.count, all.bytes);
    if (bif_tokenizer_vocab(tokenizer) < vocab) {
        bif_warn("the texts have pairs for %lld ids only, not for %lld", (long long)bif_tokenizer_vocab(tokenizer),
                 vocab);
    }
done:
    for (size_t i = 0; i < all.count; i++) {
        free(all.text[i]);
    }
    free(all.text);
    free(all.size);
    free(special);
    free(written);
    bif_tokenizer_free(tokenizer);
    return st;
}
