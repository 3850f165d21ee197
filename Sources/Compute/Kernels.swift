import CKernels

/// An instruction set the kernels are written for.
package enum InstructionSet: String, CaseIterable, Sendable {
  case scalar, avx2, avx512, neon

  var code: zn_isa {
    switch self {
    case .scalar: ZN_ISA_SCALAR
    case .avx2: ZN_ISA_AVX2
    case .avx512: ZN_ISA_AVX512
    case .neon: ZN_ISA_NEON
    }
  }

  /// The instruction sets that this machine (CPU and operating system) can run; `scalar` is always among them.
  package static var runnable: [InstructionSet] { allCases.filter { zn_kernels_for($0.code) != nil } }
}

/// The kernels of one instruction set: the only way from Swift to the C functions of `CKernels`.
///
/// Every instruction set gives the same bits; they differ in speed only. A ``WorkerPool`` carries the kernels that its loops run
/// with, so that a test can run the same computation on every instruction set in one process.
///
/// There is one method for each function of `CKernels.h`, which defines what it computes. A method checks once per call what its
/// numbers allow to check: counts, strides, field widths and alignment. The sizes of the memory behind the pointers are the
/// caller's responsibility.
package struct Kernels: Sendable {
  private let shared: SharedPointer<zn_kernels>

  var table: UnsafePointer<zn_kernels> { shared.pointer }

  /// The kernels of one instruction set, or nil when this machine cannot run it.
  package init?(for isa: InstructionSet) {
    guard let table = zn_kernels_for(isa.code) else { return nil }
    self.init(table)
  }

  private init(_ table: UnsafePointer<zn_kernels>) { shared = SharedPointer(table) }

  /// The fastest kernels this machine can run, or those that the environment variable `ZHINAO_ISA` names.
  package static let best = Kernels(zn_kernels_best())

  /// Portable C. Every machine can run it, and the other instruction sets are tested against it.
  package static let scalar = Kernels(zn_kernels_for(ZN_ISA_SCALAR)!)

  /// False when `ZHINAO_ISA` asks for something this machine cannot run; commands refuse to start then.
  package static var requestIsRunnable: Bool { zn_kernels_requested() != nil }

  package var name: String { String(cString: table.pointee.name) }
}

// MARK: Sizes that callers need

/// Outputs in one panel.
@inlinable package var panelWidth: Int { Int(ZN_PANEL) }

extension Kernels {
  /// Rows of C that one register tile of ``gemm`` holds: packed left sides consist of tiles of so many rows.
  package var tileRows: Int { Int(table.pointee.tile_rows) }
  /// Panels of C that one register tile holds.
  package var tilePanels: Int { Int(table.pointee.tile_panels) }
  /// Rows of one tile of ``gemmInt8``.
  package var int8TileRows: Int { Int(table.pointee.int8_rows) }
  /// The largest number of summed indices for which the tiles of a product stay in the second-level cache.
  package var blockDepth: Int { Int(table.pointee.block_depth) }
}

/// Element type of a matrix that kernels read.
package enum KernelType: Sendable {
  case f32, f16, bf16
  /// Whole numbers −128 … 127, as KV caches keep them.
  case int8

  var code: zn_float_type {
    switch self {
    case .f32: ZN_F32
    case .f16: ZN_F16
    case .bf16: ZN_BF16
    case .int8: ZN_I8
    }
  }

  package var byteCount: Int {
    switch self {
    case .f32: 4
    case .f16, .bf16: 2
    case .int8: 1
    }
  }
}

/// What a product does to C.
package enum ProductMode: Sendable {
  case overwrite
  /// Continues the chain of sums that C holds.
  case add
  /// As ``add``, with every product negated.
  case subtract
  /// Makes a chain of its own from zero and adds it to C once: sums over very many indices lose fewer digits in blocks.
  case addBlock

  var code: zn_gemm_mode {
    switch self {
    case .overwrite: ZN_OVERWRITE
    case .add: ZN_ADD
    case .subtract: ZN_SUBTRACT
    case .addBlock: ZN_ADD_BLOCK
    }
  }
}

// MARK: Hints to the core

/// Asks for the lines of `bytes` bytes from `address` on to come into the second-level cache; harmless for any address.
@inlinable @inline(__always)
package func prefetch(_ address: UInt, bytes: Int) { zn_prefetch(address, Int64(bytes)) }

/// Tells the core that this thread is spinning.
@inlinable @inline(__always)
package func spinPause() { zn_pause() }
