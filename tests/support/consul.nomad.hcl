job "consul-blocks" {
  group "app" {
    consul {
      cluster = "default"
    }

    network {
      mode = "bridge"
      port "http" {}
      port "admin" {
        static = 9901
        to     = 9902
      }
    }

    service {
      name = "web"
      port = "8080"
      tags = ["a", "b"]
      meta {
        team = "payments"
      }
      connect {
        sidecar_service {
          tags = ["proxy"]
          proxy {
            upstreams {
              destination_name = "db"
              local_bind_port  = 5432
            }
            config {
              protocol = "http"
            }
          }
        }
      }
      check {
        type     = "script"
        name     = "alive"
        task     = "web"
        command  = "/bin/true"
        interval = "10s"
        timeout  = "1s"
        check_restart {
          limit = 3
          grace = "10s"
        }
      }
    }

    task "web" {
      driver = "raw_exec"

      consul {}

      service {
        name     = "metrics"
        port     = "http"
        provider = "consul"
        identity {
          aud = ["consul.io"]
          ttl = "1h"
        }
        check {
          type            = "http"
          path            = "/health"
          tls_skip_verify = true
          interval        = "10s"
          timeout         = "1s"
          header {
            Accept = ["text/plain"]
          }
        }
      }

      config {
        command = "/bin/sleep"
        args    = ["600"]
      }
    }
  }
}
