/// The variable `loop`.
final class LoopState {
  private let items: Iteration
  /// Items taken out of `items` before their turn, because the loop asked for its length or its next item.
  private var waiting: [Value] = []
  private var waitingStart = 0
  private var knownCount: Int?
  private var current: Value?
  private(set) var previous: Value?
  private(set) var index0 = -1
  fileprivate var lastChanged: [Value]?

  init(_ items: Iteration, count: Int?) {
    self.items = items
    knownCount = count
  }

  var depth: Int { items.depth + 1 }

  func next() throws -> Value? {
    let item = waitingStart < waiting.count ? takeWaiting() : try items.next()
    guard let item else { return nil }
    index0 += 1
    previous = current
    current = item
    return item
  }

  private func takeWaiting() -> Value {
    let item = waiting[waitingStart]
    waitingStart += 1
    if waitingStart == waiting.count {
      waiting = []
      waitingStart = 0
    }
    return item
  }

  func peek() throws -> Value? {
    if waitingStart == waiting.count, let item = try items.next() { waiting.append(item) }
    return waitingStart < waiting.count ? waiting[waitingStart] : nil
  }

  /// The number of items; items that are made one by one are all made now.
  fileprivate func count(_ make: () throws -> Void) throws -> Int {
    if let knownCount { return knownCount }
    while let item = try items.next() {
      try make()
      waiting.append(item)
    }
    let count = index0 + 1 + waiting.count - waitingStart
    knownCount = count
    return count
  }
}

extension Interpreter {
  func count(of loop: LoopState) throws -> Int { try loop.count { try make(itemCount: 1) } }

  func member(_ name: String, of loop: LoopState) throws -> Value? {
    switch name {
    case "index": .int(loop.index0 + 1)
    case "index0": .int(loop.index0)
    case "first": .bool(loop.index0 == 0)
    case "last": .bool(try loop.peek() == nil)
    case "length": .int(try count(of: loop))
    case "revindex": .int(try count(of: loop) - loop.index0)
    case "revindex0": .int(try count(of: loop) - loop.index0 - 1)
    case "previtem":
      loop.index0 == 0 ? .undefined(Undefined(.hint("there is no previous item"))) : loop.previous
    case "nextitem": try loop.peek() ?? .undefined(Undefined(.hint("there is no next item")))
    case "depth": .int(1)
    case "depth0": .int(0)
    case "cycle": .function(Function(.loopCycle(loop)))
    case "changed": .function(Function(.loopChanged(loop)))
    default: nil
    }
  }

  func cycle(_ loop: LoopState, _ values: [Value]) throws -> Value {
    guard !values.isEmpty else { throw TemplateError.evaluation("loop.cycle() needs at least one value") }
    return values[loop.index0 % values.count]
  }

  func changed(_ loop: LoopState, _ values: [Value]) throws -> Value {
    if let last = loop.lastChanged, last.count == values.count,
      try zip(last, values).allSatisfy({ try isEqual($0, $1) })
    {
      return .bool(false)
    }
    for value in values { try check(depth: value.depth + loop.depth) }
    loop.lastChanged = values
    return .bool(true)
  }
}
