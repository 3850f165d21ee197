// The part of MPI that `Distribution` uses. Open MPI and MPICH define handles and constants as macros of different types, which Swift
// cannot read: these functions give them one form. pkg-config says where mpi.h is, so that the program uses the ABI that it runs with.
#ifndef ZN_CMPI_SHIM_H
#define ZN_CMPI_SHIM_H

#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>
#include <stddef.h>

// An operation under way.
typedef struct zn_mpi_request {
  MPI_Request value;
} zn_mpi_request;

// Errors come back as codes instead of ending the process. All functions return 0 when they succeed.
static inline int zn_mpi_start(int *rank, int *count) {
  int provided = 0;
  int code = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided);
  if (code == MPI_SUCCESS) code = MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  if (code == MPI_SUCCESS) code = MPI_Comm_rank(MPI_COMM_WORLD, rank);
  if (code == MPI_SUCCESS) code = MPI_Comm_size(MPI_COMM_WORLD, count);
  return code;
}

static inline int zn_mpi_finish(void) { return MPI_Finalize(); }

static inline int zn_mpi_broadcast(void *bytes, int count, int root, zn_mpi_request *request) {
  return MPI_Ibcast(bytes, count, MPI_BYTE, root, MPI_COMM_WORLD, &request->value);
}

static inline int zn_mpi_exchange(const void *sent, const int *sent_counts, const int *sent_offsets, void *received,
                                  const int *received_counts, const int *received_offsets, zn_mpi_request *request) {
  return MPI_Ialltoallv(sent, sent_counts, sent_offsets, MPI_BYTE, received, received_counts, received_offsets,
                        MPI_BYTE, MPI_COMM_WORLD, &request->value);
}

static inline int zn_mpi_gather(const void *part, int count, void *parts, const int *counts, const int *offsets,
                                zn_mpi_request *request) {
  return MPI_Iallgatherv(part, count, MPI_BYTE, parts, counts, offsets, MPI_BYTE, MPI_COMM_WORLD, &request->value);
}

static inline int zn_mpi_barrier(zn_mpi_request *request) { return MPI_Ibarrier(MPI_COMM_WORLD, &request->value); }

static inline int zn_mpi_test(zn_mpi_request *request, int *done) {
  return MPI_Test(&request->value, done, MPI_STATUS_IGNORE);
}

// At most 511 bytes and a zero.
static inline void zn_mpi_error_text(int code, char text[512]) {
  char whole[MPI_MAX_ERROR_STRING + 1];
  int length = 0;
  text[0] = 0;
  if (MPI_Error_string(code, whole, &length) != MPI_SUCCESS) return;
  if (length > 511) length = 511;
  for (int i = 0; i < length; i++) text[i] = whole[i];
  text[length] = 0;
}

static inline void zn_mpi_library_version(char text[512]) {
  char whole[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  text[0] = 0;
  if (MPI_Get_library_version(whole, &length) != MPI_SUCCESS) return;
  if (length > 511) length = 511;
  for (int i = 0; i < length; i++) text[i] = whole[i];
  text[length] = 0;
}

#endif
