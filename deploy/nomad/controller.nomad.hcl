# The controller as a Nomad job: nomad job run deploy/nomad/controller.nomad.hcl
# `secretbinding bootstrap --login nomad` makes what it needs in Vault and Nomad, and prints it with your
# addresses. Two allocations agree by a lock on a variable: one works, the other takes over.

job "secretbinding" {
  namespace = "default"

  group "controller" {
    count          = 2
    shutdown_delay = "1s"

    update {
      max_parallel      = 1
      health_check      = "checks"
      min_healthy_time  = "10s"
      healthy_deadline  = "3m"
      progress_deadline = "10m"
      auto_revert       = true
    }

    network {
      port "metrics" {}
    }

    service {
      name     = "secretbinding"
      provider = "nomad"
      port     = "metrics"

      check {
        type     = "http"
        name     = "alive"
        path     = "/healthz"
        interval = "10s"
        timeout  = "5s"

        check_restart {
          limit = 3
          grace = "60s"
        }
      }

      check {
        type     = "http"
        name     = "ready"
        path     = "/readyz"
        interval = "10s"
        timeout  = "5s"
      }
    }

    task "controller" {
      driver       = "docker"
      kill_timeout = "30s"

      config {
        image = "secretbinding"
        args  = ["run", "--source", "nomad"]
        ports = ["metrics"]
      }

      # The controller logs in to Vault with this identity, in secrets/nomad_vault.jwt.
      identity {
        name = "vault"
        aud  = ["vault.io"]
        env  = false
        file = true
        ttl  = "1h"
      }

      # The token for Nomad, in secrets/nomad_token.
      identity {
        env  = false
        file = true
      }

      env {
        VAULT_ADDR                    = "http://vault.service.consul:8200"
        NOMAD_ADDR                    = "http://nomad.service.consul:4646"
        SECRETBINDING_ELECTION        = "nomad"
        SECRETBINDING_VAULT_LOGIN     = "nomad"
        SECRETBINDING_METRICS_ADDRESS = "0.0.0.0:${NOMAD_PORT_metrics}"
        SECRETBINDING_LOG_FORMAT      = "json"
        NOMAD_TOKEN_FILE              = "${NOMAD_SECRETS_DIR}/nomad_token"
      }

      resources {
        cpu    = 200
        memory = 256
      }
    }
  }
}
