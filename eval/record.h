/* Answers on disk while a run goes on, so that one that was killed continues, on any number of ranks.
 *
 *   OUT.part        a lock, held by rank 0: one run an output
 *   OUT.part-S-R    answers that rank R of start S found, appended; nobody else writes there, so no lock is needed on network file systems
 *
 * Every line is the CRC-32C of a JSON text as 8 hex digits, a space, and the text. The first holds the identity, the others
 * {"question": N, "prediction": TEXT}. A line that was torn, or anything else whose checksum is wrong, counts as not there. */
#pragma once
#include "base/json.h"
#include "train/comm.h"

typedef struct bif_record bif_record;
/* Collective. identity: an object of texts, what an answer depends on, needed on rank 0 (borrowed). Fills predictions[count] of rank 0
 * (NULL = none; malloc'ed) with the answers of earlier starts, and answered[count] of every rank. BIF_ERR_USAGE: the answers that are there
 * are of another identity (restart throws them away instead), or another run holds the lock. */
bif_status bif_record_open(bif_comm *comm, const char *output, const json_t *identity, bool restart, int64_t count, char **predictions,
                           bool *answered, bif_record **out);
/* Not collective: this rank's answers are handed to the system, and are safe from a crash of the machine within some seconds. BIF_ERR_IO.
 */
bif_status bif_record_add(bif_record *record, const int64_t *questions, char *const *predictions, int64_t count);
int64_t bif_record_answers(const bif_record *record); /* kept by this rank; on rank 0 with those of earlier starts */
/* remove: rank 0 also removes the files, because the result is written or because they hold no answer of any rank. Not collective, but rank
 * 0 must be the last with `remove`; NULL is allowed. */
void bif_record_close(bif_record *record, bool remove);
