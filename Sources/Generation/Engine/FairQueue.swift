/// A waiting line in which clients take turns: one that sends a hundred requests waits behind the one that sends its first.
package struct FairQueue<Element> {
  private var lines: [String: [Element]] = [:]
  /// Clients with something in line, whose turn is next first.
  private var turns: [String] = []
  package private(set) var count = 0

  package init() {}

  package var isEmpty: Bool { count == 0 }

  /// Appends to the client's own line.
  package mutating func append(_ element: Element, client: String) {
    if lines[client] == nil { turns.append(client) }
    lines[client, default: []].append(element)
    count += 1
  }

  /// The element whose turn it is; it stays in line.
  package var first: Element? { turns.first.flatMap { lines[$0]?.first } }

  /// Takes the element whose turn it is; its client goes to the end.
  package mutating func popFirst() -> Element? {
    guard let client = turns.first, let element = lines[client]?.removeFirst() else { return nil }
    turns.removeFirst()
    if lines[client]?.isEmpty == true { lines[client] = nil } else { turns.append(client) }
    count -= 1
    return element
  }

  /// Takes out what `predicate` holds for.
  package mutating func removeAll(where predicate: (Element) -> Bool) {
    for client in turns {
      lines[client]?.removeAll(where: predicate)
      if lines[client]?.isEmpty == true { lines[client] = nil }
    }
    turns.removeAll { lines[$0] == nil }
    count = lines.values.reduce(0) { $0 + $1.count }
  }
}
