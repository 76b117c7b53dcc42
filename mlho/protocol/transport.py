"""Celery settings shared by scheduler and workers. Plain values without imports of Celery.

Celery only carries messages. Its other features (results, retries, events, revoking, remote control) are
disabled. Its redelivery is disabled, too, because leases recover a lost task within seconds
(docs/decisions/0009-no-redelivery.md).
"""

from typing import Any

from mlho.protocol.names import QUEUE, Names


def celery_settings(names: Names) -> dict[str, Any]:
    """Return Celery's settings for one execution, for scheduler and worker alike."""
    return {
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        "task_acks_late": True,
        "task_acks_on_failure_or_timeout": True,
        "task_reject_on_worker_lost": False,
        "task_default_queue": QUEUE,
        "task_default_exchange": "",
        "task_default_routing_key": QUEUE,
        "task_create_missing_queues": True,
        "task_send_sent_event": False,
        "worker_prefetch_multiplier": 1,
        "worker_send_task_events": False,
        "worker_enable_remote_control": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_retry": True,
        "broker_connection_max_retries": None,
        "broker_pool_limit": 2,
        "broker_transport_options": {
            "global_keyprefix": names.prefix,
            "priority_steps": [0],  # a single list instead of one per priority
            "socket_timeout": 10,
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
    }
