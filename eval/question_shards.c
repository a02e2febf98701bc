#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/intern.h"
#include "base/json.h"
#include "base/utf8.h"
#include "data/pool.h"
#include "eval/question.h"

bif_status bif_questions_open_shards(bif_questions *set, const char *const *paths, size_t count)
{
    bif_status st = BIF_OK;
    bif_pool pool = {0};
    if (count == 0) {
        goto done;
    }
    BIF_TRY(bif_pool_open(paths, count, &pool));
    BIF_TRY(bif_pool_whole(&pool));
    set->shards = bif_calloc((size_t)pool.shards, sizeof *set->shards);
    for (; set->shard_count < pool.shards; set->shard_count++) {
        BIF_TRY(bif_pool_shard(&pool, set->shard_count, &set->shards[set->shard_count]));
    }
done:
    bif_pool_close(&pool);
    return st;
}

/* ---- questions ---- */

typedef struct {
    bif_questions *set;
    const char *caption_prompt;
    bif_intern ids;
    bool *repeated; /* [ids.count]: several samples have it */
    bool *namesake; /* [shards]: another has its base name */
    int64_t at;     /* which shard */
    const bif_shard *shard;
    int64_t number; /* of the sample in its shard */
    bif_shard_sample sample;
} walk;

/* Ids that several samples have, whichever of them are asked, so that a limit changes no id. */
static bif_status find_repeated(walk *w)
{
    bif_status st = BIF_OK;
    size_t capacity = 0;
    for (int64_t s = 0; s < w->set->shard_count; s++) {
        const bif_shard *shard = w->set->shards[s];
        for (int64_t i = 0; i < bif_shard_samples(shard); i++) {
            bool is_new = false;
            bif_shard_sample sample;
            BIF_TRY(bif_shard_get_sample(shard, i, &sample));
            const size_t id = (size_t)bif_intern_find(&w->ids, sample.id, sample.id_size, true, &is_new);
            if (id >= capacity) {
                capacity = 2 * capacity + 256;
                w->repeated = bif_realloc(w->repeated, capacity, sizeof *w->repeated);
            }
            w->repeated[id] = !is_new;
        }
    }
done:
    return st;
}

static int by_base(const void *a, const void *b, void *context)
{
    bif_shard *const *shards = context;
    return strcmp(bif_path_base(bif_shard_path(shards[*(const int64_t *)a])), bif_path_base(bif_shard_path(shards[*(const int64_t *)b])));
}

static void find_namesakes(walk *w)
{
    const int64_t count = w->set->shard_count;
    int64_t *order = bif_calloc((size_t)count, sizeof *order);
    w->namesake = bif_calloc((size_t)count, sizeof *w->namesake);
    for (int64_t i = 0; i < count; i++) {
        order[i] = i;
    }
    qsort_r(order, (size_t)count, sizeof *order, by_base, w->set->shards);
    for (int64_t i = 1; i < count; i++) {
        if (by_base(&order[i - 1], &order[i], w->set->shards) == 0) {
            w->namesake[order[i - 1]] = w->namesake[order[i]] = true;
        }
    }
    free(order);
}

/* Bytes of a shard or of a file system: JSON takes neither all of them nor zeros. */
static bool is_text(const char *bytes, size_t size)
{
    return size > 0 && memchr(bytes, '\0', size) == NULL && bif_utf8_check(bytes, size) == size;
}

static const char *id_of(const walk *w, int64_t turn)
{
    const bif_shard_sample *s = &w->sample;
    const char *name = bif_path_base(bif_shard_path(w->shard));
    const bool own = is_text(s->id, s->id_size) && !w->repeated[bif_intern_get(&w->ids, s->id, s->id_size)];
    const bool named = is_text(name, strlen(name)), digest = !named || w->namesake[w->at];
    char *base = own ? bif_span_copy((bif_span){s->id, s->id_size})
                     : bif_format("%s%s%.*s:%" PRId64, named ? name : "", digest ? "@" : "", digest ? 8 : 0,
                                  bif_shard_payload_digest(w->shard), w->number);
    char *whole = turn > 0 ? bif_format("%s#%" PRId64, base, turn + 1) : bif_strdup(base);
    const char *id = bif_questions_id(w->set, (bif_span){whole, strlen(whole)});
    free(base);
    free(whole);
    return id;
}

static const char *content_name(bif_questions *set, const bif_shard_image *image)
{
    return bif_questions_text(set, "%016" PRIx64 "%016" PRIx64, image->id[0], image->id[1]);
}

static bif_status add_question(walk *w, int64_t turn, const char *prompt, const char *answer, int64_t images, bif_question **out)
{
    bif_status st = BIF_OK;
    bif_questions *set = w->set;
    bif_question *q = bif_questions_add(set, bif_shard_path(w->shard), w->number);
    bif_seen *pictures = bif_questions_take(set, (size_t)images * sizeof *pictures);
    for (int64_t k = 0; k < images; k++) {
        bif_shard_image image;
        BIF_TRY(bif_shard_get_image(w->shard, (int64_t)w->sample.images[k], &image));
        pictures[k] = (bif_seen){.name = content_name(set, &image), .shard = w->shard, .number = (int64_t)w->sample.images[k]};
    }
    q->id = id_of(w, turn);
    q->prompt = q->bare = bif_questions_copy(set, prompt, strlen(prompt));
    q->answer = answer != NULL ? bif_questions_copy(set, answer, strlen(answer)) : NULL;
    q->pictures = pictures;
    q->images = images;
    *out = q;
done:
    return st;
}

static int64_t placeholders(const char *text)
{
    int64_t count = 0;
    for (const char *at = text; (at = strstr(at, "<image>")) != NULL; at += 7) {
        count++;
    }
    return count;
}

/* The turns as data/chat.h reads them: from[i] alternates, a first one from gpt is dropped. values [*count] are borrowed. */
static bif_status read_turns(const char *where, const json_t *list, const char **values, int64_t *count)
{
    bif_status st = BIF_OK;
    *count = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *turn = json_array_get(list, i);
        const char *from = json_string_value(json_object_get(turn, "from")), *value = json_string_value(json_object_get(turn, "value"));
        const bool human = from != NULL && strcmp(from, "human") == 0, gpt = from != NULL && strcmp(from, "gpt") == 0;
        if (i == 0 && gpt) {
            continue;
        }
        if (value == NULL || (*count % 2 == 0 ? !human : !gpt)) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: turn %zu is no text from %s", where, i, *count % 2 == 0 ? "human" : "gpt"));
        }
        values[(*count)++] = value;
    }
    if (*count == 0) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: a conversation without a question", where));
    }
done:
    return st;
}

/* Pictures that are shown up to turn `last`: one a placeholder or, where the sample has one for each turn that holds some, one a turn (LLaVA).
 * Where neither is so all of them: encoding says what is wrong. Without any placeholder they stand in front of the first turn. */
static int64_t pictures_shown(const char *const *values, int64_t count, int64_t last, int64_t images)
{
    int64_t marks[2] = {0}, turns[2] = {0}; /* up to `last`, of all */
    for (int64_t i = 0; i < count; i += 2) {
        const int64_t here = placeholders(values[i]);
        for (int k = i <= last ? 0 : 1; k < 2; k++) {
            marks[k] += here;
            turns[k] += here > 0;
        }
    }
    return marks[1] == 0 ? images : marks[1] == images ? marks[0] : turns[1] == images ? turns[0] : images;
}

/* A first question whose only picture stands in front is shown without its mark: that is where prompts get theirs. */
static const char *plain_first(const char *value, int64_t images)
{
    static const char mark[] = "<image>\n";
    const char *rest = value + sizeof mark - 1;
    const bool front = images == 1 && strncmp(value, mark, sizeof mark - 1) == 0 && placeholders(value) == 1;
    const bool bare = front && *rest != '\0' && strchr(" \t\r\n", *rest) == NULL && strchr(" \t\r\n", rest[strlen(rest) - 1]) == NULL;
    return bare ? rest : value;
}

/* The first turn as a part of what stands before a question, which must say itself where its pictures are. */
static const char *marked_first(bif_questions *set, const char *value, int64_t images)
{
    static const char mark[] = "<image>\n";
    const size_t step = sizeof mark - 1, size = strlen(value);
    char *text = bif_questions_take(set, (size_t)images * step + size + 1);
    for (int64_t i = 0; i < images; i++) {
        memcpy(text + (size_t)i * step, mark, step);
    }
    memcpy(text + (size_t)images * step, value, size + 1);
    return text;
}

static bif_status ask_conversation(walk *w, const char *where, const json_t *list)
{
    bif_status st = BIF_OK;
    bif_questions *set = w->set;
    const int64_t images = w->sample.image_count;
    int64_t count = 0, marks = 0;
    const char **values = bif_calloc(json_array_size(list) + 1, sizeof *values), **before = NULL;
    BIF_TRY(read_turns(where, list, values, &count));
    before = bif_questions_take(set, (size_t)count * sizeof *before); /* of all questions of the sample */
    for (int64_t i = 0; i < count; i++) {
        before[i] = bif_questions_copy(set, values[i], strlen(values[i]));
        marks += i % 2 == 0 ? placeholders(values[i]) : 0;
    }
    before[0] = marked_first(set, values[0], marks == 0 ? images : 0);
    for (int64_t i = 0; i < count && !bif_questions_full(set); i += 2) {
        bif_question *q = NULL;
        const int64_t shown = pictures_shown(values, count, i, images);
        BIF_TRY(add_question(w, i / 2, i == 0 ? plain_first(values[0], shown) : values[i], i + 1 < count ? values[i + 1] : NULL, shown, &q));
        q->before = before;
        q->turns = i;
    }
done:
    free(values);
    return st;
}

static bif_status ask_sample(walk *w)
{
    bif_status st = BIF_OK;
    json_t *value = NULL;
    bif_question *q = NULL;
    char *where = bif_format("%s:%" PRId64, bif_shard_path(w->shard), w->number);
    BIF_TRY(bif_json_parse(where, w->sample.text, w->sample.text_size, &value));
    const json_t *list = json_object_get(value, "conversations");
    const char *caption = json_string_value(json_object_get(value, "caption"));
    if (json_is_array(list)) {
        BIF_TRY(ask_conversation(w, where, list));
    } else if (caption == NULL) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: is neither a conversation nor a caption", where));
    } else if (w->caption_prompt == NULL) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: is a caption; --prompt says what is asked about pictures with captions", where));
    } else {
        BIF_TRY(add_question(w, 0, w->caption_prompt, caption, w->sample.image_count, &q));
    }
done:
    json_decref(value);
    free(where);
    return st;
}

bif_status bif_questions_shards(bif_questions *set, const char *caption_prompt)
{
    bif_status st = BIF_OK;
    walk w = {.set = set, .caption_prompt = caption_prompt};
    BIF_TRY(find_repeated(&w));
    find_namesakes(&w);
    for (w.at = 0; w.at < set->shard_count; w.at++) {
        w.shard = set->shards[w.at];
        for (w.number = 0; w.number < bif_shard_samples(w.shard) && !bif_questions_full(set); w.number++) {
            BIF_TRY(bif_shard_get_sample(w.shard, w.number, &w.sample));
            BIF_TRY(ask_sample(&w));
        }
    }
    if (set->count == 0) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: holds no samples", bif_shard_path(set->shards[0])));
    }
done:
    bif_intern_free(&w.ids);
    free(w.repeated);
    free(w.namesake);
    return st;
}

bif_status bif_questions_pairs(bif_questions *set, const char *const *shards, size_t count)
{
    bif_status st = BIF_OK;
    int64_t kept = 0;
    BIF_TRY(bif_questions_open_shards(set, shards, count));
    BIF_TRY(bif_questions_shards(set, ""));
    for (int64_t i = 0; i < set->count; i++) {
        const bif_question *q = &set->items[i];
        if (q->turns == 0 && (q->images != 1 || q->answer == NULL || q->answer[0] == '\0')) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s:%lld: has %s; a pair is one picture and its caption", q->file, (long long)q->line,
                             q->images == 0  ? "no picture"
                             : q->images > 1 ? "several pictures"
                                             : "no caption"));
        }
        if (q->turns == 0) {
            set->items[kept++] = *q;
        }
    }
    set->count = kept;
done:
    return st;
}

/* ---- pictures of other questions ---- */

/* A picture that is looked for. rank: how a sample's id was equal to its name; contents of the same rank must be equal. */
typedef struct {
    bif_seen *picture;
    const bif_question *question;
    uint64_t content[2];
    int rank;
    bool several;
} wanted;

typedef struct {
    bif_span id;
    int rank;
    int64_t wanted;
} spelling;

static int by_span(const void *x, const void *y)
{
    const bif_span *a = x, *b = y; /* the first field of spelling */
    const size_t least = a->size < b->size ? a->size : b->size;
    const int order = least > 0 ? memcmp(a->text, b->text, least) : 0;
    return order != 0 ? order : a->size < b->size ? -1 : a->size > b->size;
}

/* The ids a sample with this picture may have, the best first. */
static void spell(const char *name, int64_t index, spelling out[4])
{
    const char *base = bif_path_base(name), *dot = strrchr(base, '.');
    const size_t size = strlen(name), stem = dot != NULL && dot > base ? (size_t)(dot - name) : size, folder = (size_t)(base - name);
    const bif_span ids[4] = {{name, size}, {name, stem}, {base, size - folder}, {base, stem - folder}};
    for (int k = 0; k < 4; k++) {
        out[k] = (spelling){ids[k], 4 - k, index};
    }
}

static void match(wanted *all, const spelling *way, const bif_shard *shard, int64_t number, const bif_shard_image *image)
{
    wanted *w = &all[way->wanted];
    if (way->rank > w->rank) {
        w->rank = way->rank;
        w->several = false;
        w->picture->shard = shard;
        w->picture->number = number;
        memcpy(w->content, image->id, sizeof w->content);
    } else if (way->rank == w->rank) {
        w->several = w->several || memcmp(w->content, image->id, sizeof w->content) != 0;
    }
}

static bif_status match_all(const bif_questions *set, wanted *all, const spelling *ways, int64_t count)
{
    bif_status st = BIF_OK;
    for (int64_t s = 0; s < set->shard_count; s++) {
        const bif_shard *shard = set->shards[s];
        for (int64_t i = 0; i < bif_shard_samples(shard); i++) {
            bif_shard_sample sample;
            bif_shard_image image;
            BIF_TRY(bif_shard_get_sample(shard, i, &sample));
            const spelling key = {.id = {sample.id, sample.id_size}};
            const spelling *found = sample.image_count == 1 ? bsearch(&key, ways, (size_t)count, sizeof *ways, by_span) : NULL;
            if (found == NULL) {
                continue;
            }
            BIF_TRY(bif_shard_get_image(shard, (int64_t)sample.images[0], &image));
            while (found > ways && by_span(found - 1, &key) == 0) {
                found--;
            }
            for (; found < ways + count && by_span(found, &key) == 0; found++) {
                match(all, found, shard, (int64_t)sample.images[0], &image);
            }
        }
    }
done:
    return st;
}

bif_status bif_questions_find_pictures(bif_questions *set)
{
    bif_status st = BIF_OK;
    int64_t count = 0, at = 0;
    for (int64_t i = 0; i < set->count; i++) {
        count += set->items[i].images;
    }
    wanted *all = bif_calloc((size_t)count, sizeof *all);
    spelling *ways = bif_calloc(4 * (size_t)count, sizeof *ways);
    for (int64_t i = 0; i < set->count; i++) {
        for (int64_t k = 0; k < set->items[i].images; k++) {
            bif_seen *picture = (bif_seen *)&set->items[i].pictures[k]; /* the set's own */
            if (picture->base64.size == 0) {
                all[at] = (wanted){.picture = picture, .question = &set->items[i]};
                spell(picture->name, at, ways + 4 * at);
                at++;
            }
        }
    }
    qsort(ways, 4 * (size_t)at, sizeof *ways, by_span);
    BIF_TRY(match_all(set, all, ways, 4 * at));
    for (int64_t i = 0; i < at; i++) {
        const wanted *w = &all[i];
        if (w->rank == 0 || w->several) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s:%lld: %s the id '%s' (folder and extension may be missing), so the picture %s",
                             w->question->file, (long long)w->question->line,
                             w->several ? "samples of the shards with different pictures have" : "no sample of the shards with one picture has",
                             w->picture->name, w->several ? "is not known" : "is not there"));
        }
    }
done:
    free(all);
    free(ways);
    return st;
}

/* An image by its content; *shard stays NULL where none has it. */
static bif_status find_content(const bif_questions *set, const char *name, const bif_shard **shard, int64_t *number)
{
    bif_status st = BIF_OK;
    uint64_t id[2] = {0};
    if (strlen(name) != 32 || strspn(name, "0123456789abcdef") != 32 || sscanf(name, "%16" SCNx64 "%16" SCNx64, &id[0], &id[1]) != 2) {
        return BIF_OK;
    }
    for (int64_t s = 0; s < set->shard_count && *shard == NULL; s++) {
        for (int64_t i = 0; i < bif_shard_images(set->shards[s]) && *shard == NULL; i++) {
            bif_shard_image image;
            BIF_TRY(bif_shard_get_image(set->shards[s], i, &image));
            if (memcmp(image.id, id, sizeof id) == 0) {
                *shard = set->shards[s];
                *number = i;
            }
        }
    }
done:
    return st;
}

bif_status bif_questions_shard_picture(const bif_questions *set, const char *name, char **bytes, size_t *size)
{
    bif_status st = BIF_OK;
    bif_seen seen = {.name = name};
    wanted one = {.picture = &seen};
    spelling ways[4];
    bif_shard_image image;
    BIF_TRY(find_content(set, name, &seen.shard, &seen.number));
    if (seen.shard == NULL) {
        spell(name, 0, ways);
        qsort(ways, 4, sizeof *ways, by_span);
        BIF_TRY(match_all(set, &one, ways, 4));
    }
    if (seen.shard == NULL || one.several) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: %s in the shards", name, one.several ? "several pictures of that name" : "no such picture"));
    }
    BIF_TRY(bif_shard_get_image(seen.shard, seen.number, &image));
    *size = (size_t)image.size;
    *bytes = bif_malloc(*size + 1);
    BIF_TRY(bif_shard_read_image(seen.shard, seen.number, *bytes, *size));
done:
    return st;
}
