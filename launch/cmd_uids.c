/* bifocal data uids | select-uids: selections as DataComp's lists of uids, out and in. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "data/uids.h"
#include "launch/commands.h"
#include "launch/options.h"
#include "launch/pool_samples.h"
#include "launch/team.h"

#define POLL_SAMPLES 16384

typedef struct {
    const char *from, *out, *uids;
    char **shards;
    int shard_count;
    int64_t memory_mib;
    bool json;
} options;

typedef struct {
    const options *o;
    const bif_team *team;
    bif_pool pool;
    bif_selection *selection;
    void *item; /* [count] of this rank: bif_uid, or bif_drop */
    int64_t count, room;
    bif_uid *list; /* [listed] select-uids */
    int64_t listed;
} work;

static void *add(work *w, size_t size)
{
    if (w->count == w->room) {
        w->room = w->room > 0 ? 2 * w->room : 4096;
        w->item = bif_realloc(w->item, (size_t)w->room, size);
    }
    return (char *)w->item + (size_t)w->count++ * size;
}

static bif_status enough_memory(const work *w, double bytes)
{
    return bytes <= (double)w->o->memory_mib * 0x1p20
               ? BIF_OK
               : bif_fail(BIF_ERR_MEMORY, "the uids take up to %.0f MiB on a rank; give --memory-mib %.0f, or work on fewer shards at a time",
                          bytes / 0x1p20 + 1, bytes / 0x1p20 + 1);
}

/* For every kept sample of a shard, visit(w, number, uid). */
static bif_status each_kept(work *w, int64_t number, void (*visit)(work *w, int64_t sample, bif_uid uid))
{
    bif_status st = BIF_OK;
    bif_shard *shard = NULL;
    const int64_t first = w->pool.first_sample[number], samples = w->pool.first_sample[number + 1] - first;
    const uint16_t *times = bif_selection_times(w->selection) + first;
    BIF_TRY(bif_pool_shard(&w->pool, number, &shard));
    for (int64_t i = 0; i < samples; i++) {
        uint64_t uid[2];
        if (i % POLL_SAMPLES == 0) {
            w->team->poll(w->team->context);
        }
        if (times[i] == 0) {
            continue;
        }
        BIF_TRY(bif_sample_uid(shard, i, uid));
        visit(w, first + i, (bif_uid){uid[0], uid[1]});
    }
    bif_progress("uids: shard %" PRId64 " of %" PRId64, number + 1, w->pool.shards);
done:
    bif_shard_close(shard);
    return st;
}

static void free_work(work *w)
{
    free(w->item);
    free(w->list);
    bif_selection_free(w->selection);
    bif_pool_close(&w->pool);
}

/* Options of both verbs. *go_on = false: a failure, or --help was asked for and printed. */
static bif_status parse(int argc, char **argv, const struct option *known, const char *verb, const char *help, options *o, bool *go_on)
{
    bif_status st = BIF_OK;
    *o = (options){.memory_mib = 2048};
    *go_on = false;
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (c) {
        case 'o': o->out = optarg; break;
        case 'f': o->from = optarg; break;
        case 'u': o->uids = optarg; break;
        case 'j': o->json = true; break;
        case 'm': BIF_TRY(bif_option_number("memory-mib", optarg, 1, &o->memory_mib)); break;
        case 'h': fputs(help, stdout); goto done;
        default: BIF_TRY(bif_fail(BIF_ERR_USAGE, "%s: wrong option; see bifocal %s --help", verb, verb));
        }
    }
    BIF_TRY(bif_option_need(verb, "out", o->out));
    BIF_TRY(bif_option_writable("out", o->out));
    if (optind == argc) {
        BIF_TRY(bif_fail(BIF_ERR_USAGE, "%s: name the shards; see bifocal %s --help", verb, verb));
    }
    o->shards = argv + optind;
    o->shard_count = argc - optind;
    *go_on = true;
done:
    return st;
}

/* ---- uids ---- */

static const char uids_help[] =
    "usage: bifocal data uids --out FILE.npy [--from SEL] [options] SHARD...\n\n"
    "Writes the uids of the kept samples as DataComp's tools read them (resharder.py): the upper and the lower 64 bits, sorted, as the array that numpy\n"
    "calls u8,u8. A sample that is kept k times is listed k times. A uid is the sample's id where that is 32 hex digits, else a digest of its\n"
    "source, id, text and pictures.\n\n"
    "  --out FILE.npy    the list\n"
    "  --from SEL        which samples are kept; default: all\n"
    "  --memory-mib N    memory of a rank (2048); what would take more is refused\n";

static void take_uid(work *w, int64_t sample, bif_uid uid)
{
    for (int k = 0; k < bif_selection_times(w->selection)[sample]; k++) {
        *(bif_uid *)add(w, sizeof uid) = uid;
    }
}

static bif_status list_unit(void *argument, int64_t shard)
{
    return each_kept(argument, shard, take_uid);
}

static bif_status write_uids(work *w, char *gathered, size_t size)
{
    bif_uid *all = (bif_uid *)(void *)gathered;
    const int64_t count = (int64_t)(size / sizeof *all);
    int64_t distinct = 0;
    const bif_status st = bif_uids_write(w->o->out, all, count);
    for (int64_t i = 0; i < count; i++) {
        distinct += i == 0 || bif_uid_compare(&all[i - 1], &all[i]) != 0;
    }
    if (st == BIF_OK) {
        printf("%s: %" PRId64 " uids of %" PRId64 " samples, %" PRId64 " different\n", w->o->out, count, w->pool.samples, distinct);
    }
    return st;
}

static bif_status list_job(void *context, const bif_team *team, bif_comm *comm)
{
    (void)comm;
    bif_status st = BIF_OK;
    work w = {.o = context, .team = team};
    char *all = NULL;
    size_t size = 0;
    st = bif_selection_open(w.o->from, w.o->shards, w.o->shard_count, &w.pool, &w.selection);
    st = st == BIF_OK ? bif_pool_whole(&w.pool) : st;
    if (st == BIF_OK) { /* three times on rank 0: its own, all that are gathered, and once more to join or sort them */
        st = enough_memory(&w, 48.0 * (double)bif_selection_kept(w.selection) + 2.0 * (double)w.pool.samples);
    }
    BIF_TRY(team->agree(team->context, st));
    BIF_TRY(team->share(team->context, w.pool.shards, list_unit, &w));
    team->gather(team->context, w.item, (size_t)w.count * sizeof(bif_uid), &all, &size);
    BIF_TRY(team->agree(team->context, team->rank == 0 ? write_uids(&w, all, size) : BIF_OK));
done:
    free(all);
    free_work(&w);
    return st;
}

bif_status bif_cmd_data_uids(int argc, char **argv)
{
    static const struct option known[] = {{"out", required_argument, NULL, 'o'},
                                          {"from", required_argument, NULL, 'f'},
                                          {"memory-mib", required_argument, NULL, 'm'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    options o;
    bool go_on = false;
    const bif_status st = parse(argc, argv, known, "data uids", uids_help, &o, &go_on);
    return go_on ? bif_with_team(0, list_job, &o) : st;
}

/* ---- select-uids ---- */

static const char select_help[] =
    "usage: bifocal data select-uids --uids FILE.npy --out OUT.sel [--from IN.sel] [options] SHARD...\n\n"
    "A selection of the samples whose uids are in a list, as DataComp gives them out (see bifocal data uids): the others are dropped, and one that is\n"
    "listed k times is kept k times. Samples with the same uid (copies in several shards) share what is listed, the first ones first, so a list that\n"
    "data uids wrote brings back as many samples. How many uids of the list no sample has is said.\n\n"
    "  --uids FILE.npy   the list; it need not be sorted\n"
    "  --out OUT.sel     the selection, with one step more\n"
    "  --from IN.sel     the selection to go on from; default: all samples\n"
    "  --json            the result as JSON\n"
    "  --memory-mib N    memory of a rank (2048); what would take more is refused\n";

enum { NOT_LISTED = 0, AS_LISTED = 1, ANOTHER = 2 };

/* A record for every sample: `other` is where the list has its uid (the first of equal ones), or BIF_NO_SAMPLE. */
static void match_uid(work *w, int64_t sample, bif_uid uid)
{
    int64_t low = 0, high = w->listed;
    while (low < high) { /* the first that is not smaller */
        const int64_t middle = low + (high - low) / 2;
        if (bif_uid_compare(&w->list[middle], &uid) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    const bool listed = low < w->listed && bif_uid_compare(&w->list[low], &uid) == 0;
    *(bif_drop *)add(w, sizeof(bif_drop)) = (bif_drop){.sample = (uint64_t)sample, .other = listed ? (uint64_t)low : BIF_NO_SAMPLE};
}

static bif_status select_unit(void *argument, int64_t shard)
{
    return each_kept(argument, shard, match_uid);
}

/* Reads the list; a uid that stands there more often than a selection can repeat a sample is refused. */
static bif_status read_list(work *w)
{
    bif_status st = bif_uids_read(w->o->uids, &w->list, &w->listed);
    if (st != BIF_OK) {
        return st;
    }
    for (int64_t i = UINT16_MAX; i < w->listed; i++) {
        if (bif_uid_compare(&w->list[i - UINT16_MAX], &w->list[i]) == 0) {
            return bif_fail(BIF_ERR_DATA, "%s: the uid %016" PRIx64 "%016" PRIx64 " is listed more than %d times", w->o->uids, w->list[i].high,
                            w->list[i].low, UINT16_MAX);
        }
    }
    return BIF_OK;
}

static int by_sample(const void *a, const void *b)
{
    const uint64_t x = ((const bif_drop *)a)->sample, y = ((const bif_drop *)b)->sample;
    return (x > y) - (x < y);
}

typedef struct {
    uint64_t first; /* sample */
    int64_t samples, given;
} holder;

/* From matches, which rise by sample, to the records of a step: the k places of a uid that m samples have are k / m for each, and one more for the first
 * k % m. Returns how many records there are; *distinct and *absent: uids of the list, and those that no sample has. */
static int64_t deal(const work *w, bif_drop *match, int64_t count, int64_t *distinct, int64_t *absent)
{
    const uint16_t *times = bif_selection_times(w->selection);
    holder *of = bif_calloc((size_t)w->listed, sizeof *of);
    int64_t records = 0;
    for (int64_t i = 0; i < count; i++) {
        if (match[i].other != BIF_NO_SAMPLE) {
            holder *h = &of[match[i].other];
            h->first = h->samples++ == 0 ? match[i].sample : h->first;
        }
    }
    *distinct = *absent = 0;
    for (int64_t i = 0, end = 0; i < w->listed; i = end) {
        for (end = i + 1; end < w->listed && bif_uid_compare(&w->list[i], &w->list[end]) == 0; end++) {
        }
        of[i].given = end - i;
        *absent += of[i].samples == 0;
        ++*distinct;
    }
    for (int64_t i = 0; i < count; i++) {
        const bif_drop m = match[i];
        bif_drop r = {.sample = m.sample, .other = BIF_NO_SAMPLE, .reason = NOT_LISTED};
        if (m.other != BIF_NO_SAMPLE) {
            holder *h = &of[m.other];
            r.times = (uint16_t)((h->given + h->samples - 1) / h->samples); /* of what is left, by those that are left: the first get the rest */
            r.reason = r.times == 0 ? ANOTHER : AS_LISTED;
            r.other = r.times == 0 ? h->first : BIF_NO_SAMPLE;
            h->given -= r.times;
            h->samples--;
        }
        r.value = (float)r.times;
        if (r.times != times[m.sample]) {
            match[records++] = r;
        }
    }
    free(of);
    return records;
}

static bif_status write_selection(work *w, char *matches, size_t size)
{
    static const char *const reasons[] = {
        [NOT_LISTED] = "not in the list", [AS_LISTED] = "as often as listed", [ANOTHER] = "listed, but kept as another sample of the same uid"};
    bif_status st = BIF_OK;
    char hex[33];
    bif_drop *all = (bif_drop *)(void *)matches;
    int64_t count = (int64_t)(size / sizeof *all), distinct = 0, absent = 0;
    if (count > 0) {
        qsort(all, (size_t)count, sizeof *all, by_sample);
    }
    count = deal(w, all, count, &distinct, &absent);
    bif_digest_bytes(w->list, (size_t)w->listed * sizeof *w->list, hex);
    json_t *parameters = json_pack("{s:s, s:I}", "uids_xxh3", hex, "listed", (json_int_t)w->listed);
    bif_selection_add(w->selection, "select-uids", parameters, reasons, 3, all, count);
    json_decref(parameters);
    if (bif_selection_kept(w->selection) == 0) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: none of its %" PRId64 " different uids belongs to a sample here; '%s' was not written", w->o->uids, distinct,
                         w->o->out));
    }
    BIF_TRY(bif_selection_write(w->selection, w->o->out));
    const int64_t step = bif_selection_steps(w->selection) - 1;
    if (w->o->json) {
        json_t *result = bif_step_json(w->selection, step);
        json_object_set_new(result, "uids", json_integer(distinct));
        json_object_set_new(result, "uids_absent", json_integer(absent));
        json_dumpf(result, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(result);
    } else {
        bif_step_print(w->selection, step);
        printf("%" PRId64 " of the %" PRId64 " different uids in the list belong to no sample here\n", absent, distinct);
    }
done:
    return st;
}

static bif_status select_job(void *context, const bif_team *team, bif_comm *comm)
{
    (void)comm;
    bif_status st = BIF_OK;
    work w = {.o = context, .team = team};
    char *matches = NULL;
    size_t size = 0;
    st = bif_selection_open(w.o->from, w.o->shards, w.o->shard_count, &w.pool, &w.selection);
    st = st == BIF_OK ? bif_pool_whole(&w.pool) : st;
    st = st == BIF_OK ? read_list(&w) : st;
    if (st == BIF_OK) { /* three times the records on rank 0: its own, all that are gathered, and once more to join, sort or keep them */
        st = enough_memory(&w, 76.0 * (double)w.pool.samples + 48.0 * (double)w.listed);
    }
    BIF_TRY(team->agree(team->context, st));
    BIF_TRY(team->share(team->context, w.pool.shards, select_unit, &w));
    team->gather(team->context, w.item, (size_t)w.count * sizeof(bif_drop), &matches, &size);
    BIF_TRY(team->agree(team->context, team->rank == 0 ? write_selection(&w, matches, size) : BIF_OK));
done:
    free(matches);
    free_work(&w);
    return st;
}

bif_status bif_cmd_data_select_uids(int argc, char **argv)
{
    static const struct option known[] = {{"uids", required_argument, NULL, 'u'},
                                          {"out", required_argument, NULL, 'o'},
                                          {"from", required_argument, NULL, 'f'},
                                          {"json", no_argument, NULL, 'j'},
                                          {"memory-mib", required_argument, NULL, 'm'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    bif_status st = BIF_OK;
    options o;
    bool go_on = false;
    st = parse(argc, argv, known, "data select-uids", select_help, &o, &go_on);
    if (!go_on) {
        return st;
    }
    BIF_TRY(bif_option_need("data select-uids", "uids", o.uids));
    st = bif_with_team(0, select_job, &o);
done:
    return st;
}
