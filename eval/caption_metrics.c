#include "eval/caption_metrics.h"

#include <math.h>
#include <stdlib.h>

#include "base/intern.h"

enum { ORDERS = 4 };

/* The n-grams of a caption, each once: those of one order together, in order of appearance. */
typedef struct {
    size_t first[ORDERS + 1]; /* into list.grams and list.counts */
    int64_t words, bigrams;
} grams;

typedef struct {
    uint32_t *grams;
    int32_t *counts;
    size_t count, capacity;
} gram_list;

/* Of every n-gram there is: in how many pictures, and marks for who saw it last. */
typedef struct {
    double *documents;
    uint32_t *seen;  /* 1 + caption that counted it last */
    size_t *place;   /* ... and where in its list */
    uint32_t capacity;
} gram_table;

typedef struct {
    bif_intern words, grams;
    gram_table table;
    gram_list list;
    uint32_t *ids, captions;
    size_t id_capacity;
} corpus;

static uint32_t number_of(bif_intern *intern, const void *bytes, size_t size)
{
    return (uint32_t)bif_intern_find(intern, bytes, size, true, NULL);
}

static void make_room(corpus *c)
{
    if (c->grams.count < c->table.capacity) {
        return;
    }
    const uint32_t old = c->table.capacity, now = 2 * (uint32_t)c->grams.count + 1024;
    c->table.documents = bif_realloc(c->table.documents, now, sizeof *c->table.documents);
    c->table.seen = bif_realloc(c->table.seen, now, sizeof *c->table.seen);
    c->table.place = bif_realloc(c->table.place, now, sizeof *c->table.place);
    for (uint32_t i = old; i < now; i++) {
        c->table.documents[i] = 0.0;
        c->table.seen[i] = 0;
    }
    c->table.capacity = now;
}

/* Words as str.split() cuts them; ids are c->ids. */
static size_t split_words(corpus *c, bif_span text)
{
    size_t count = 0;
    for (bif_span word; bif_text_word(&text, &word);) {
        if (count == c->id_capacity) {
            c->id_capacity = 2 * c->id_capacity + 64;
            c->ids = bif_realloc(c->ids, c->id_capacity, sizeof *c->ids);
        }
        c->ids[count++] = number_of(&c->words, word.text, word.size);
    }
    return count;
}

static grams count_grams(corpus *c, bif_span text)
{
    grams g = {0};
    gram_list *l = &c->list;
    const size_t words = split_words(c, text);
    const uint32_t me = ++c->captions;
    g.words = (int64_t)words;
    g.bigrams = words > 1 ? (int64_t)words - 1 : 0;
    for (size_t n = 1; n <= ORDERS; n++) {
        g.first[n - 1] = l->count;
        for (size_t i = 0; i + n <= words; i++) {
            const uint32_t id = number_of(&c->grams, c->ids + i, n * sizeof *c->ids);
            make_room(c);
            if (c->table.seen[id] == me) {
                l->counts[c->table.place[id]]++;
                continue;
            }
            if (l->count == l->capacity) {
                l->capacity = 2 * l->capacity + 4096;
                l->grams = bif_realloc(l->grams, l->capacity, sizeof *l->grams);
                l->counts = bif_realloc(l->counts, l->capacity, sizeof *l->counts);
            }
            c->table.seen[id] = me;
            c->table.place[id] = l->count;
            l->grams[l->count] = id;
            l->counts[l->count++] = 1;
        }
    }
    g.first[ORDERS] = l->count;
    return g;
}

/* ---- BLEU ---- */

static void count_correct(const corpus *c, bif_caption *caption, const grams *mine, const grams *refs)
{
    int64_t distance = INT64_MAX;
    caption->length = mine->words;
    for (int64_t r = 0; r < caption->reference_count; r++) {
        const int64_t away = llabs(refs[r].words - mine->words);
        if (away < distance || (away == distance && refs[r].words < caption->closest)) {
            distance = away;
            caption->closest = refs[r].words;
        }
    }
    for (int n = 0; n < ORDERS; n++) {
        caption->correct[n] = 0;
        for (size_t i = mine->first[n]; i < mine->first[n + 1]; i++) {
            int32_t most = 0;
            for (int64_t r = 0; r < caption->reference_count; r++) {
                for (size_t k = refs[r].first[n]; k < refs[r].first[n + 1]; k++) {
                    most = c->list.grams[k] == c->list.grams[i] && c->list.counts[k] > most ? c->list.counts[k] : most;
                }
            }
            caption->correct[n] += most < c->list.counts[i] ? most : c->list.counts[i];
        }
    }
}

void bif_bleu_add(bif_bleu *sums, const bif_caption *caption, int64_t times)
{
    sums->length += times * caption->length;
    sums->closest += times * caption->closest;
    for (int n = 0; n < ORDERS; n++) {
        sums->guess[n] += times * (caption->length > n ? caption->length - n : 0);
        sums->correct[n] += times * caption->correct[n];
    }
}

void bif_bleu_score(const bif_bleu *sums, double bleu[4])
{
    double product = 1.0;
    const double ratio = ((double)sums->length + 1e-15) / ((double)sums->closest + 1e-9);
    for (int n = 0; n < ORDERS; n++) {
        product *= ((double)sums->correct[n] + 1e-15) / ((double)sums->guess[n] + 1e-9);
        bleu[n] = pow(product, 1.0 / (n + 1)) * (ratio < 1.0 ? exp(1.0 - 1.0 / ratio) : 1.0);
    }
}

/* ---- CIDEr-D ---- */

static double weight_of(const corpus *c, size_t place, double log_documents)
{
    const double documents = c->table.documents[c->list.grams[place]];
    return c->list.counts[place] * (log_documents - log(documents > 1.0 ? documents : 1.0));
}

static void norms_of(const corpus *c, const grams *g, double log_documents, double norm[ORDERS])
{
    for (int n = 0; n < ORDERS; n++) {
        double sum = 0.0;
        for (size_t i = g->first[n]; i < g->first[n + 1]; i++) {
            const double w = weight_of(c, i, log_documents);
            sum += w * w;
        }
        norm[n] = sqrt(sum);
    }
}

static double cider(const corpus *c, const grams *mine, const grams *refs, int64_t ref_count, double log_documents)
{
    double score[ORDERS] = {0}, norm[ORDERS];
    norms_of(c, mine, log_documents, norm);
    for (int64_t r = 0; r < ref_count; r++) {
        double ref_norm[ORDERS];
        norms_of(c, &refs[r], log_documents, ref_norm);
        const double delta = (double)(mine->bigrams - refs[r].bigrams);
        for (int n = 0; n < ORDERS; n++) {
            double value = 0.0;
            for (size_t i = mine->first[n]; i < mine->first[n + 1]; i++) {
                for (size_t k = refs[r].first[n]; k < refs[r].first[n + 1]; k++) {
                    if (c->list.grams[k] == c->list.grams[i]) {
                        const double h = weight_of(c, i, log_documents), w = weight_of(c, k, log_documents);
                        value += (h < w ? h : w) * w;
                        break;
                    }
                }
            }
            if (norm[n] != 0.0 && ref_norm[n] != 0.0) {
                value /= norm[n] * ref_norm[n];
            }
            score[n] += value * exp(-(delta * delta) / (2.0 * 6.0 * 6.0));
        }
    }
    return (score[0] + score[1] + score[2] + score[3]) / ORDERS / (double)ref_count * 10.0;
}

/* ---- ROUGE-L ---- */

/* Parts between single spaces: of an empty text one, the empty word. */
static size_t split_spaces(corpus *c, bif_span text, uint32_t **out)
{
    size_t count = 0, start = 0;
    uint32_t *ids = bif_malloc((text.size + 1) * sizeof *ids);
    for (size_t i = 0; i <= text.size; i++) {
        if (i == text.size || text.text[i] == ' ') {
            ids[count++] = number_of(&c->words, text.text + start, i - start);
            start = i + 1;
        }
    }
    *out = ids;
    return count;
}

static size_t common_subsequence(const uint32_t *a, size_t a_count, const uint32_t *b, size_t b_count)
{
    size_t *row = bif_calloc(b_count + 1, sizeof *row);
    for (size_t i = 0; i < a_count; i++) {
        size_t diagonal = 0;
        for (size_t j = 0; j < b_count; j++) {
            const size_t above = row[j + 1];
            row[j + 1] = a[i] == b[j] ? diagonal + 1 : above > row[j] ? above : row[j];
            diagonal = above;
        }
    }
    const size_t length = row[b_count];
    free(row);
    return length;
}

static double rouge(corpus *c, const bif_caption *caption)
{
    uint32_t *mine, *theirs;
    const size_t count = split_spaces(c, caption->prediction, &mine);
    double precision = 0.0, recall = 0.0;
    for (int64_t r = 0; r < caption->reference_count; r++) {
        const size_t their_count = split_spaces(c, caption->references[r], &theirs);
        const double common = (double)common_subsequence(mine, count, theirs, their_count);
        precision = fmax(precision, common / (double)count);
        recall = fmax(recall, common / (double)their_count);
        free(theirs);
    }
    free(mine);
    const double beta2 = 1.2 * 1.2;
    return precision != 0.0 && recall != 0.0 ? (1.0 + beta2) * precision * recall / (recall + beta2 * precision) : 0.0;
}

void bif_caption_score(bif_caption *captions, int64_t count)
{
    corpus c = {0};
    size_t total = 0;
    for (int64_t i = 0; i < count; i++) {
        total += (size_t)captions[i].reference_count;
    }
    grams *refs = bif_malloc(total * sizeof *refs), *mine = bif_malloc((size_t)count * sizeof *mine);
    size_t at = 0;
    for (int64_t i = 0; i < count; i++) {
        const size_t first = at;
        const size_t begin = c.list.count;
        for (int64_t r = 0; r < captions[i].reference_count; r++) {
            refs[at++] = count_grams(&c, captions[i].references[r]);
        }
        const uint32_t me = ++c.captions; /* each n-gram of the picture's references counts once */
        for (size_t k = begin; first < at && k < c.list.count; k++) {
            const uint32_t id = c.list.grams[k];
            c.table.documents[id] += c.table.seen[id] != me;
            c.table.seen[id] = me;
        }
    }
    for (int64_t i = 0; i < count; i++) {
        mine[i] = count_grams(&c, captions[i].prediction);
    }
    at = 0;
    const double log_documents = log((double)count);
    for (int64_t i = 0; i < count; i++) {
        count_correct(&c, &captions[i], &mine[i], refs + at);
        captions[i].cider = cider(&c, &mine[i], refs + at, captions[i].reference_count, log_documents);
        captions[i].rouge = rouge(&c, &captions[i]);
        at += (size_t)captions[i].reference_count;
    }
    free(refs);
    free(mine);
    free(c.table.documents);
    free(c.table.seen);
    free(c.table.place);
    free(c.list.grams);
    free(c.list.counts);
    free(c.ids);
    bif_intern_free(&c.words);
    bif_intern_free(&c.grams);
}
