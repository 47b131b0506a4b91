# SPDX-License-Identifier: Apache-2.0
"""What all nodes share: lifecycle, one worker thread, complaints, diagnostics, main."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
import signal
import threading
import time
from typing import Any

from builtin_interfaces.msg import Time as TimeMsg
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
import rclpy
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.logging import get_logger
from rclpy.subscription import Subscription
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage, Image

from hmr_ros.nodes.compat import ExternalShutdownException, init_without_signal_handlers
from hmr_ros.nodes.diagnostics import NodeDiagnostics
from hmr_ros.nodes.errors import NodeError
from hmr_ros.nodes.parameters import NodeParameters, TABLES
from hmr_ros.nodes.qos import image_qos, overridable, result_qos
from hmr_ros.perception.errors import PerceptionError

THROTTLE_S = 5.0
# Of the executor, after the nodes have stopped.
_LAST_TURNS = 20


class NewestSlot:
    """Holds the newest item for the worker; an item that is replaced was dropped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._item: Any = None

    def put(self, item: Any) -> bool:
        """Store `item`; returns whether an older one was dropped for it."""
        with self._lock:
            dropped, self._item = self._item is not None, item
        return dropped

    def take(self) -> Any:
        """Return the item and empty the slot; None when it is empty."""
        with self._lock:
            item, self._item = self._item, None
        return item


class ManagedNode(LifecycleNode):
    """
    A lifecycle node whose heavy work runs on one worker thread of its own.

    Callbacks only hand over the newest item with `submit`; the worker loads (`load`), works
    (`process`) and frees (`unload`), so that one thread alone touches the engine. A subclass sets
    `TABLE`, the name of its parameters and of the node, and `INPUT`, the topic whose silence is an
    error, and fills in the hooks below.
    """

    TABLE = ''
    INPUT = ''
    #: seconds that the worker may need to come to an end.
    WORKER_TIMEOUT_S = 10.0

    def __init__(self, **node_arguments: Any) -> None:
        """Declare parameters. Raises NodeError when one of them is not allowed."""
        super().__init__(self.TABLE, **node_arguments)
        self.diagnostics = NodeDiagnostics()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix=self.TABLE)
        self._slot = NewestSlot()
        self._inputs: list[Subscription] = []
        self._active = False
        # Set while the node must not wait for anything on its worker.
        self.interrupted = threading.Event()
        self._failures_in_a_row = 0
        self._last_logged: dict[str, float] = {}
        try:
            self.parameters = NodeParameters(self, TABLES[self.TABLE])
        except NodeError:
            self.destroy_node()
            raise
        self._give_up = self.create_guard_condition(self._on_give_up)
        self._status = self.create_publisher(DiagnosticArray, '/diagnostics', result_qos())
        # Steady time: diagnostics go on when a simulation pauses.
        self.create_timer(
            1.0, self.publish_diagnostics, clock=Clock(clock_type=ClockType.STEADY_TIME))

    # Hooks -----------------------------------------------------------------------------------

    def load(self) -> None:
        """Load what is slow to load; runs on the worker. Any exception fails configure."""

    def unload(self) -> None:
        """Free what `load` took; runs on the worker."""

    def create_outputs(self) -> None:
        """Create lifecycle publishers; called once, at the first configure."""

    def subscribe(self) -> None:
        """Create inputs with `listen` and `listen_to_images`; called at activate."""

    def process(self, item: Any) -> None:
        """
        Work on one item, on the worker.

        NodeError and PerceptionError mean that the item is bad: it is skipped. Any other exception
        counts as a failure of the node.
        """

    def farewell(self) -> None:
        """Publish a last, empty result; called at deactivate while publishers still work."""

    # For subclasses --------------------------------------------------------------------------

    def listen(self, message_type: type, topic: str, callback: Callable, qos: Any) -> None:
        """Subscribe until deactivate."""
        self._inputs.append(self.create_subscription(
            message_type, topic, callback, qos, qos_overriding_options=overridable()))

    def subscribe_to_images(self, callback: Callable[[Any], None]) -> Subscription:
        """Subscribe to `image` as parameter image_transport says."""
        if self.parameters['image_transport'] == 'raw':
            return self.create_subscription(Image, 'image', callback, image_qos(),
                                            qos_overriding_options=overridable())
        # The plugin's topic hangs below the name that remapping gave to the raw one.
        topic = self.resolve_topic_name('image') + '/compressed'
        return self.create_subscription(CompressedImage, topic, callback, image_qos(),
                                        qos_overriding_options=overridable())

    def listen_to_images(self, callback: Callable[[Any], None]) -> None:
        """Subscribe to `image` until deactivate."""
        self._inputs.append(self.subscribe_to_images(callback))

    def submit(self, item: Any) -> None:
        """Hand the newest item to the worker; an older one that still waits is dropped."""
        if self._slot.put(item):
            self.note_replaced()
        else:
            self._worker.submit(self._drain)

    def note_replaced(self) -> None:
        """Count an item that a newer one replaced before its turn."""
        self.diagnostics.counters['frames_dropped'] += 1

    def in_background(self, work: Callable[[], None]) -> None:
        """Run `work` on the worker, which takes nothing else until it returns."""
        self._worker.submit(self._guard, work)

    def complain(self, cause: str, text: str, level: bytes = DiagnosticStatus.WARN) -> None:
        """Show `text` in diagnostics, and log it unless the same cause was logged just now."""
        self.diagnostics.complain(level, text)
        now = time.monotonic()
        if now - self._last_logged.get(cause, -THROTTLE_S) >= THROTTLE_S:
            self._last_logged[cause] = now
            log = self.get_logger()
            # rclpy allows one severity per line of code.
            if level == DiagnosticStatus.ERROR:
                log.error(text)
            else:
                log.warning(text)

    def age_ms(self, stamp: TimeMsg) -> float:
        """Milliseconds from a message's stamp to now, on the node's clock."""
        now = self.get_clock().now()
        return (now - Time.from_msg(stamp, now.clock_type)).nanoseconds * 1e-6

    def on_worker(self, work: Callable[[], Any]) -> Any:
        """Run `work` on the worker and wait for it."""
        return self._worker.submit(work).result()

    def publish_diagnostics(self) -> None:
        """Publish the present status; the node does so once a second."""
        name = self._full_name.lstrip('/')
        status = self.diagnostics.status(
            name, 'active' if self._active else 'inactive', self.parameters['input_timeout_s'],
            self.parameters['latency_budget_ms'],
            self.INPUT and self.resolve_topic_name(self.INPUT))
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._status.publish(message)

    @property
    def is_active(self) -> bool:
        """Whether the node is in the state active."""
        return self._active

    # Lifecycle -------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load on the worker and create publishers; on failure the node stays unconfigured."""
        try:
            self.on_worker(self.load)
        except Exception as error:  # noqa: B902 whatever it is, the node must stay up and say so
            self.diagnostics.blocked = f'configure failed: {error}'
            self.get_logger().error(self.diagnostics.blocked)
            return TransitionCallbackReturn.FAILURE
        if not self._managed_entities:
            self.create_outputs()
        self.diagnostics.blocked = None
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Enable publishers and subscribe."""
        result = super().on_activate(state)
        self._failures_in_a_row = 0
        self.diagnostics.blocked = None
        self.diagnostics.last_input_s = time.monotonic()
        self._active = True
        self.interrupted.clear()
        self.subscribe()
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop input, wait for the worker, and clear what readers still show."""
        self._stop_input()
        self.farewell()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free engine and models."""
        self.on_worker(self.unload)
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop from any state."""
        self._stop_input()
        self.on_worker(self.unload)
        return super().on_shutdown(state)

    def start(self) -> bool:
        """Configure and activate when autostart is set; returns whether the node is active."""
        if not self.parameters['autostart']:
            return False
        if self.trigger_configure() != TransitionCallbackReturn.SUCCESS:
            self.get_logger().error(
                f'not started; set it right and call: ros2 lifecycle set {self._full_name} '
                'configure')
            return False
        return self.trigger_activate() == TransitionCallbackReturn.SUCCESS

    def stop(self) -> None:
        """Deactivate when active, so that readers get a last, empty message."""
        if self._active and self.context.ok():
            self.trigger_deactivate()

    def destroy_node(self) -> None:
        """Stop the worker and free everything."""
        self._active = False
        self.interrupted.set()
        self._slot.take()
        self._worker.submit(self.unload)
        self._worker.shutdown(wait=True)
        super().destroy_node()

    # Inside ----------------------------------------------------------------------------------

    @property
    def _full_name(self) -> str:
        return self.get_fully_qualified_name()

    def _stop_input(self) -> None:
        self._active = False
        self.interrupted.set()
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._inputs.clear()
        self._slot.take()
        self._worker.submit(lambda: None).result(self.WORKER_TIMEOUT_S)

    def _drain(self) -> None:
        item = self._slot.take()
        if item is not None and self._active and self._guard(lambda: self.process(item)):
            self.diagnostics.counters['frames_processed'] += 1

    def _guard(self, work: Callable[[], None]) -> bool:
        """Run `work`, on the worker; returns whether it succeeded and complains when not."""
        try:
            work()
        except (NodeError, PerceptionError) as error:
            self.diagnostics.counters['frames_rejected'] += 1
            self.complain(str(error)[:20], str(error))
        except Exception as error:  # noqa: B902 a worker must outlive any frame
            self._note_failure(error)
        else:
            self._failures_in_a_row = 0
            return True
        return False

    def _note_failure(self, error: Exception) -> None:
        self.diagnostics.counters['failures'] += 1
        self._failures_in_a_row += 1
        text = f'{type(error).__name__}: {error}'
        self.complain(text[:20], text, DiagnosticStatus.ERROR)
        if self._failures_in_a_row >= self.parameters['max_failures']:
            self.diagnostics.blocked = (
                f'deactivated after {self._failures_in_a_row} failures in a row; last: {text}. '
                f'When it is repaired: ros2 lifecycle set {self._full_name} activate')
            self._give_up.trigger()

    def _on_give_up(self) -> None:
        if self._active:
            self.get_logger().error(self.diagnostics.blocked)
            self.trigger_deactivate()


def _raise_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def run_nodes(make: Callable[[], list[ManagedNode]], args: list[str] | None = None) -> int:
    """Run nodes in this process until SIGINT or SIGTERM; returns the exit status."""
    init_without_signal_handlers(args)
    signal.signal(signal.SIGINT, _raise_interrupt)
    signal.signal(signal.SIGTERM, _raise_interrupt)
    nodes: list[ManagedNode] = []
    executor = SingleThreadedExecutor()
    try:
        nodes = make()
        for node in nodes:
            executor.add_node(node)
            node.start()
        executor.spin()
    except NodeError as error:
        get_logger('hmr_ros').fatal(str(error))
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        for node in nodes:
            node.stop()
        _send_last_answers(executor)
        close_nodes(nodes)
        executor.shutdown()
        rclpy.try_shutdown()
    return 0


def _send_last_answers(executor: SingleThreadedExecutor) -> None:
    """Let calls of services that waited for a node, which has stopped by now, be answered."""
    try:
        for _ in range(_LAST_TURNS):
            executor.spin_once(timeout_sec=0.0)
    except ExternalShutdownException:
        pass


def close_nodes(nodes: list[ManagedNode]) -> None:
    """Deactivate all nodes, in order, then destroy them."""
    for node in nodes:
        node.stop()
    for node in nodes:
        node.destroy_node()
