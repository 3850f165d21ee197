import Generation
import NIOCore
import Synchronization

/// Which requests to an engine end with which connection.
final class ConnectionRegistry: Sendable {
  private let tickets = Mutex<[ObjectIdentifier: [ObjectIdentifier: any Cancellable]]>([:])

  /// Cancels the ticket when the channel closes, until ``release(_:of:)``.
  func cancel(_ ticket: any Cancellable, whenClosed channel: any Channel) {
    let key = ObjectIdentifier(channel)
    let isNew = tickets.withLock { tickets in
      defer { tickets[key, default: [:]][ObjectIdentifier(ticket)] = ticket }
      return tickets[key] == nil
    }
    guard isNew else { return }
    // Once for a connection, however many requests it carries.
    channel.closeFuture.whenComplete { _ in
      let left = self.tickets.withLock { $0.removeValue(forKey: key) }
      for ticket in (left ?? [:]).values { ticket.cancel() }
    }
  }

  func release(_ ticket: any Cancellable, of channel: any Channel) {
    tickets.withLock { _ = $0[ObjectIdentifier(channel)]?.removeValue(forKey: ObjectIdentifier(ticket)) }
  }
}

extension GenerationTicket: Cancellable {}
