/* Says which rooms stand on this one; keeps the library from being empty. */
extern int bif_room_train;
int bif_room_train;
